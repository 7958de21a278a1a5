"""Which fields of a record have its time and its text: named by the user, or found by their usual names."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

Record = dict[str, Any]
Path = tuple[str, ...]
"""The keys that lead to a value of a record."""

SURE_NAMES = ("timestamp", "time", "ts", "t", "datetime", "eventtime", "realtimetimestamp", "timeunixnano")
"""Names of fields that have the time of the record, and no other, if they have dates."""
TIME_NAMES = (
    *SURE_NAMES,
    *("date", "observedtimeunixnano", "asctime", "isodate", "timelocal", "timeiso8601", "timegenerated"),
    *("timecreated", "eventtimestamp", "logtime", "logtimestamp", "created", "createdat", "at", "when"),
    *("fecha", "fechahora", "localtime", "utctime", "requestreceivedtimestamp", "sourcerealtimetimestamp"),
    *("epoch", "epochmillis", "unixtime", "timems", "timestampms", "tsms", "timeus", "tsus", "timens"),
    *("tsns", "timestampns", "timemillis", "instant"),
)
"""Usual names of the field with the time, the most usual first: without case and signs (`plain_name`)."""
TEXT_NAMES = (
    *("text", "message", "msg", "log", "body", "content", "line", "event", "m", "raw", "textpayload"),
    *("shortmessage", "fullmessage", "renderedmessage", "messagetemplate", "mt", "logmessage", "messagetext"),
    *("mensaje", "texto", "entry", "description"),
)
"""Usual names of the field with the text, likewise."""
DEPTH = 3
"""How deep in a record a field is looked for."""


def find_path(record: Record, name: str) -> Path:
    """The keys of a dotted path. A name with dots that is itself a key is that key.

    >>> find_path({"a": {"b": 1}}, "a.b"), find_path({"a.b": 1}, "a.b")
    (('a', 'b'), ('a.b',))
    """
    return (name,) if name in record else tuple(name.split("."))


def value_at(record: Record, path: Path) -> Any:
    """The value that the keys lead to; None if there is none.

    >>> value_at({"t": {"$date": 3}}, ("t", "$date"))
    3
    """
    found: Any = record
    for key in path:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def usual_paths(records: Sequence[Record], names: Sequence[str]) -> list[Path]:
    """The fields of some records that have a usual name: the outer ones first, then the more usual names."""
    rank = {name: number for number, name in enumerate(names)}
    found: dict[Path, tuple[int, int]] = {}
    for record in records:
        for path in _paths(record):
            if path not in found and (plain := plain_name(path[-1])) in rank:
                found[path] = (len(path), rank[plain])
    return sorted(found, key=found.__getitem__)


def fields_of(record: Record) -> str:
    """The names of a record's fields, for the message of an error.

    >>> fields_of({"level": 30, "t": {"$date": "…"}})
    'level, t.$date'
    """
    names = [".".join(path) for path in _paths(record) if not isinstance(value_at(record, path), dict)]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "") if names else "none"


def _paths(record: Record, before: Path = ()) -> Iterator[Path]:
    for key, value in record.items():
        yield (*before, key)
        if isinstance(value, dict) and len(before) + 1 < DEPTH:
            yield from _paths(value, (*before, key))


def plain_name(name: str) -> str:
    """A name without case and signs.

    >>> plain_name("@timestamp"), plain_name("Event_Time")
    ('timestamp', 'eventtime')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())
