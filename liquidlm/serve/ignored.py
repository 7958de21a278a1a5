"""What becomes of fields of requests that the server does not know: it names them."""

import logging
from collections.abc import Sequence

LOG = logging.getLogger(__name__)
NAMED = 16
"""Names in one header."""
LOGGED = 256
"""Names that are written to the log, each once."""


class IgnoredFields:
    """Names ignored fields in a header of the response, and each name once in the log."""

    def __init__(self):
        self._seen: set[str] = set()

    def header(self, names: Sequence[str]) -> dict[str, str]:
        """The header `Warning`; none without names.

        >>> IgnoredFields().header(["mirostat", "ñ"])
        {'Warning': '299 liquidlm "fields that are ignored: mirostat, \\\\\\\\xf1"'}
        """
        if not names:
            return {}
        shown = [_plain(name) for name in names[:NAMED]]
        for name in shown:
            if name not in self._seen and len(self._seen) < LOGGED:
                self._seen.add(name)
                LOG.warning("requests have the field %s, which this server ignores", name)
        more = ["..."] if len(names) > NAMED else []
        return {"Warning": f'299 liquidlm "fields that are ignored: {", ".join([*shown, *more])}"'}


def _plain(name: str) -> str:
    """A name without anything that could end or break a header or a line of a log."""
    shown = name[:40].encode("unicode_escape").decode("ascii")
    return shown.replace("\\", "\\\\").replace('"', "'")
