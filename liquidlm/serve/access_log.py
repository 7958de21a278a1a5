"""A line for each request: who, what, how long. It never has a text in it."""

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Any
from urllib.parse import quote

from ..errors import LiquidError, first_line

LONGEST_PATH = 200


class AccessLog:
    """Writes a line for each request.

    Args:
        file: is written at its end, and opened again if it was moved; "-" is the standard error.

    Raises:
        LiquidError: the file cannot be opened.
    """

    def __init__(self, file: str):
        try:
            self._handler = (
                logging.StreamHandler(sys.stderr)
                if file == "-"
                else WatchedFileHandler(file, encoding="utf-8")
            )
        except OSError as error:
            raise LiquidError(f"the access log {file} cannot be opened: {first_line(error)}") from error

    def write(
        self, client: str, method: str, path: str, status: int, ms: float, facts: dict[str, Any]
    ) -> None:
        """Write a line.

        Args:
            client: address of the client.
            method, path: of the request, without its query.
            status: of the answer.
            ms: time to the end of the answer.
            facts: more to say, such as numbers of tokens.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"client": client, "method": method, "path": path[:LONGEST_PATH], "status": status}
        said |= {"ms": round(ms)} | facts
        line = " ".join(f"{key}={quote(str(value), safe='/:.,-_[]')}" for key, value in said.items())
        self._handler.handle(logging.makeLogRecord({"msg": f"time={now} {line}"}))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()
