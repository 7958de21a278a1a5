"""JSON Lines: one JSON value per line."""

import json
from collections.abc import Iterable, Iterator

from ..errors import LiquidError


def json_lines(lines: Iterable[str], name: str) -> Iterator[tuple[int, object]]:
    """The number and the value of each line that is not blank; `name` stands for the file in an error.

    Raises:
        LiquidError: a line is not JSON; the message names the line.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LiquidError(f"{name}, line {number}: not JSON ({error})") from error
