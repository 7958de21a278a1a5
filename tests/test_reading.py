"""Options of reading a file."""

import json

import pytest

from liquidlm.errors import LiquidError
from liquidlm.text.reading import ReadingOptions


def test_the_options_go_into_a_file_and_out_of_it() -> None:
    assert ReadingOptions().given() == {}
    options = ReadingOptions.of(time_zone="+01:00", year=2026, late="sort", text_field="a.b")
    assert options.clock.year == 2026 and options.clock.time_format is None
    kept = json.loads(json.dumps(options.given()))
    assert kept == {"time_zone": "+01:00", "year": 2026, "late": "sort", "text_field": "a.b"}
    assert ReadingOptions.of(**kept) == options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"late": "drop"}, "--late must be clamp, error or sort, not drop"),
        ({"errors": "ignore"}, "--errors must be strict or replace, not ignore"),
        ({"encoding": "latin-99"}, "--encoding latin-99 is not known"),
        ({"encoding": "base64"}, "--encoding base64 is not known"),
        ({"encoding": ""}, "--encoding  is not known"),
    ],
)
def test_an_unknown_name_is_one_clear_error(given: dict[str, str], said: str) -> None:
    with pytest.raises(LiquidError, match=said):
        ReadingOptions.of(**given)
