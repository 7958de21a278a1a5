"""Subtitles as people have them: nothing that is shown is lost, and nothing else gets in."""

import pytest

from liquidlm.errors import LiquidError
from liquidlm.text.subtitles import read_subtitles

ONE = "00:00:01,000 --> 00:00:02,000"
TWO = "00:00:03,000 --> 00:00:04,000"
A, B = "00:01.000 --> 00:02.000", "00:03.000 --> 00:04.000"
BOTH = [(1.0, "Hello"), (3.0, "There")]


def shown(text: str) -> list[tuple[float, str]]:
    return [(round(one.time, 6), one.text) for one in read_subtitles(text.split("\n"), "a film")]


@pytest.mark.parametrize(
    "text",
    [
        f"1\n{ONE}\nHello\n\n2\n{TWO}\nThere\n",
        f"1\n{ONE}\nHello\n2\n{TWO}\nThere",
        f"1\n{ONE}\nHello\n \n2\n{TWO}\nThere\n\n\n",
        f"1\n{ONE}\n{{i}}Hello{{/i}}\n\n2\n{TWO}\nThere\n\n3\n",
        "1\n00: 00: 01, 000 → 00: 00: 02, 000\nHello\n\n2\n\u200e0:3 --> 0:4\nThere",
        f"{ONE}\nHello\n\n{TWO}\nThere",
        f"\n\n1\n{ONE}\n\nHello\n\n\n2\n{TWO}\nThere",
        "1\n0:00:01 --> 0:00:02\nHello\n\n2\n0:00:03 --> 0:00:04\nThere",
        "1\n0:1,0 --> 0:2,5\nHello\n\n2\n0:3 --> 0:4\nThere",
        f"1\r\n{ONE}\r\nHello\r\n\r\n2\r\n{TWO}\r\nThere\r\n",
        f"1\r{ONE}\rHello\r\r2\r{TWO}\rThere\r",
        f"\ufeff1\n{ONE}\nHello\n\n2\n{TWO}\nThere",
        f"1\n{ONE} X1:100 X2:200\n{{\\an8}}<i>Hello</i>\n\n2\n{TWO}\n<font color=red>There</font>",
        f"2\n{TWO}\nThere\n\n1\n{ONE}\nHello",
        f"WEBVTT\n\n{A}\nHello\n\n{B}\nThere",
        f"WEBVTT\n{A}\nHello\n\n{B}\nThere",
        f"WEBVTT - a title\nKind: captions\nLanguage: en\n\n{A}\n\nHello\n\n{B}\nThere",
        f"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n{A} line:0%\nHello\n\n{B}\nThere",
        f"WEBVTT\n\nfirst name\n{A}\nHello\n\nsecond - name\n{B}\nThere",
        f"WEBVTT\n\nNOTE a remark\nof two lines\n\nSTYLE\n::cue {{ color: red }}\n\n{A}\nHello\n\n{B}\nThere",
        f"WEBVTT\n\nREGION\nid:fred\n\n{A}\nHello\n\nNOTE\nno\n\n{B}\nThere",
        f"WEBVTT\n\n{A}\n<v Ana><c.yellow>Hello</c></v>\n\n{B}\n<00:03.100>There</>",
        f"\ufeffWEBVTT\r\n\r\n{A}\r\nHello\r\n\r\n{B}\r\nThere\r\n",
    ],
)
def test_two_cues(text):
    assert shown(text) == BOTH


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("42", "42"),
        ("42\n", "42"),
        ("one\n\ntwo", "one two"),
        ("- Hi.\n- Ho.", "- Hi. - Ho."),
        ("Tom &amp; Ana &lt;3&nbsp;", "Tom & Ana <3"),
        ("&#39;R&D; &eacute;&quot;&notit AT&T", "'R&D; é\"&notit AT&T"),
        ("a < b and c > d", "a < b and c > d"),
        ("look --> there", "look --> there"),
        ("12:30 --> lunch", "12:30 --> lunch"),
        ("<laughs> ha", "<laughs> ha"),
        ("one<br>two", "one two"),
        ("NOTE this", "NOTE this"),
    ],
)
def test_the_text_of_a_cue(lines, text):
    assert shown(f"1\n{ONE}\n{lines}\n\n2\n{TWO}\nThere") == [(1.0, text), (3.0, "There")]
    assert shown(f"1\n{ONE}\n{lines}\n2\n{TWO}\nThere") == [(1.0, text), (3.0, "There")]


def test_text_beside_the_times_is_shown():
    assert shown(f"1\n{ONE} Hello\n\n2\n{TWO}\nThere") == BOTH


def test_hours_have_any_number_of_digits():
    assert shown("1\n100:00:01,000 --> 100:00:02,000\nHello") == [(360001.0, "Hello")]


def test_roll_up_captions_are_said_once():
    text = """WEBVTT
Kind: captions

00:00:00.320 --> 00:00:02.000 align:start position:0%
\x20
we<00:00:00.500><c> begin</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
we begin
\x20

00:00:02.010 --> 00:00:04.000 align:start position:0%
we begin
with<00:00:02.300><c> words</c>

00:00:04.000 --> 00:00:04.010
with words
\x20

00:00:04.010 --> 00:00:06.000
with words
and<00:00:04.300><c> end</c>"""
    assert shown(text) == [(0.32, "we begin"), (2.01, "with words"), (4.01, "and end")]


def test_what_is_said_again_after_a_pause_is_said_twice():
    assert shown(f"1\n{ONE}\nNo!\n\n2\n{TWO}\nNo!") == [(1.0, "No!"), (3.0, "No!")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no subtitle in it"),
        ("1\n2\n", "no subtitle in it"),
        ("WEBVTT\n\nNOTE nothing", "no subtitle in it"),
        (f"Hello\n\n1\n{ONE}\nThere", "line 1: 'Hello' stands before the first time"),
        (f"1\n{ONE}\nHello\n\n2\n00:00:0x --> 00:00:04\nThere", "line 6: .* is not a time"),
        ("1\n00:00:61,000 --> 00:01:02,000\nHello", "line 2: .* end at 59"),
    ],
)
def test_what_cannot_be_read(text, said):
    with pytest.raises(LiquidError, match=said):
        shown(text)
