"""Lines of JSON ▶ records: one per line, a list of them as a document, or those in usual lists."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .json_lines import json_lines

JSON_SUFFIXES = (".jsonl", ".ndjson")
LISTS = ("resourceLogs", "scopeLogs", "logRecords", "logEvents", "Records")
"""Fields with lists of records: OpenTelemetry's, one in another, and those of Amazon's services."""


class JsonRecord(NamedTuple):
    """A record, or a line that is not a record.

    Attributes:
        number: of its line.
        value: the record, usually an object; a text if the line is not JSON.
        document: the number of the line, if it is a list of records: a document of its own. Otherwise 0.
    """

    number: int
    value: Any
    document: int = 0


def json_records(lines: Iterable[str], name: str, all_json: bool = True) -> Iterator[JsonRecord]:
    """The records of a file.

    >>> [record.value for record in json_records(['{"a": 1}', '[{"a": 2}]'], "here")]
    [{'a': 1}, {'a': 2}]

    Args:
        lines: of the file. Blank ones are left out.
        name: stands for the file in the message of an error.
        all_json: whether a line that is not JSON is an error, not a text.

    Raises:
        LiquidError: a line is not JSON.
    """
    numbered = json_lines(lines, name) if all_json else _some_json(lines)
    for number, value in numbered:
        listed = value.get("events", value) if isinstance(value, dict) else value
        if isinstance(listed, list):
            yield from (JsonRecord(number, each, number) for each in listed)
        else:
            yield from (JsonRecord(number, each) for each in _unpacked(value))


def is_json(lines: Sequence[str]) -> bool:
    """Whether the first lines of a file are JSON objects or lists of them: the first one, or most of them.

    >>> is_json(['{"msg": "on"}', "at Main.run()", '{"msg": "off"}']), is_json(["{} is empty"])
    (True, False)
    """
    shown = [parsed_objects(line) is not None for line in lines if line.strip()]
    return any(shown[:1]) or 2 * sum(shown) > len(shown)


def _some_json(lines: Iterable[str]) -> Iterator[tuple[int, object]]:
    """Objects and lists of them, and the lines between them as they are."""
    for number, line in enumerate(lines, start=1):
        found = parsed_objects(line)
        yield number, line.rstrip("\r") if found is None else found


def parsed_object(line: str) -> dict[str, Any] | None:
    """The object that a line is; None for any other line.

    >>> parsed_object('{"on": true}'), parsed_object("[1]")
    ({'on': True}, None)
    """
    found = parsed_objects(line)
    return found if isinstance(found, dict) else None


def parsed_objects(line: str) -> dict[str, Any] | list[dict[str, Any]] | None:
    """The object that a line is, or its list of objects; None for any other line.

    >>> parsed_objects('[{"on": true}]'), parsed_objects("[1]")
    ([{'on': True}], None)
    """
    if not line.lstrip().startswith(("{", "[{")):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    listed = isinstance(found, list) and all(isinstance(each, dict) for each in found)
    return found if isinstance(found, dict) or listed else None


def _unpacked(value: Any) -> list[Any]:
    """The records in a value: itself, or those in its lists."""
    for key in LISTS if isinstance(value, dict) else ():
        if isinstance(value.get(key), list):
            return [record for part in value[key] for record in _unpacked(part)]
    return [value]
