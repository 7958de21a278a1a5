"""Every file is UTF-8, whatever the locale; the error for another file names its format."""

import ast
import json
from pathlib import Path

import pytest

from liquidlm.errors import LiquidError, printable
from liquidlm.inference.line_cutter import LineCutter
from liquidlm.inference.timed_text import TimedLines
from liquidlm.text.corpus import read_documents
from liquidlm.training.settings import read_config

ROOT = Path(__file__).parents[1]
FOLDERS = ("liquidlm", "benchmarks", "recipes", "examples")
BINARY = {"os", "gzip", "webbrowser", "tarfile", "safe_open"}


def _without_encoding(call: ast.Call) -> bool:
    """Whether a call opens text in the encoding of the locale."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = function.value if isinstance(function, ast.Attribute) else None
    if name not in ("open", "read_text", "write_text") or (
        isinstance(owner, ast.Name) and owner.id in BINARY
    ):
        return False
    words = [*call.args, *(word.value for word in call.keywords)]
    modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    binary = name == "open" and any("b" in mode and len(mode) < 4 for mode in modes)
    own = name == "write_text" and owner is None  # ours, of liquidlm.runtime.files
    return not binary and not own and "encoding" not in {word.arg for word in call.keywords}


def test_no_file_is_opened_in_the_encoding_of_the_locale() -> None:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 80
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _without_encoding(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("hello there".encode("utf-16-le"), "utf-16-le text, not UTF-8; give --encoding utf-16-le"),
        ("hello there".encode("utf-16-be"), "utf-16-be text, not UTF-8; give --encoding utf-16-be"),
        ("hello".encode("utf-16") + b"!", "not utf-16 text: 0x21 at byte 12; give another --encoding"),
        ("hello".encode("utf-32-le"), "not a text file: a NUL byte at byte 1, and many more"),
        (b"a.txt" + bytes(252) + b"ustar\x0000", "a tar archive: unpack it"),
        ("año".encode("latin-1"), "0xf1 at byte 1; convert it to UTF-8 .*iconv -f LATIN1"),
        (b"\x1f\x8b\x08\0", "compressed with gzip: let its name end in .gz"),
        (b"PK\x03\x04\0", "zip"),
    ],
)
@pytest.mark.parametrize("longest", [1, None])
def test_what_is_not_utf8_is_named(tmp_path: Path, data: bytes, said: str, longest: int | None) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(LiquidError, match=said):
        list(read_documents(tmp_path / "a.txt", longest))


TEXT = "[00:01] año\0 one\x0c\u2028 two\x85 three\r four\n[00:03] \U0001f642\0\x1c\x1d\n"
LINES = TEXT.split("\n")[:-1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("longest", [1, 7, None])
def test_a_byte_order_mark_is_believed_and_only_a_line_feed_ends_a_line(
    tmp_path: Path, encoding: str, longest: int | None
) -> None:
    data = ("\ufeff" * encoding.endswith("-be") + TEXT).encode(encoding)
    (tmp_path / "a.txt").write_bytes(data)
    plain = read_documents(tmp_path / "a.txt", longest)
    assert "".join(document.text for document in plain) == TEXT
    (timed,) = read_documents(tmp_path / "a.txt", timestamps=True)
    assert [time for _, time in timed.marks] == [1.0, 3.0]
    assert timed.text == "\n".join(line.partition(" ")[2] for line in LINES)
    for size in (1, 3, len(data)):
        cutter = LineCutter()
        found = [line for i in range(0, len(data), size) for line in cutter.push(data[i : i + size])]
        assert "".join(part.text + "\n" * part.ends for part in found) == TEXT
    (tmp_path / "a.jsonl").write_bytes(json.dumps({"text": TEXT}, ensure_ascii=False).encode(encoding))
    if not encoding.endswith("-be"):
        assert [document.text for document in read_documents(tmp_path / "a.jsonl")] == [TEXT]


def test_a_log_that_was_cut_while_it_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(bytes(5000) + b"\n[00:01] on\n[00:02] off" + bytes(600))
    (document,) = read_documents(tmp_path / "a.log", timestamps=True)
    assert document.text == "on\noff" + "\0" * 600
    (tmp_path / "a.log").write_bytes(b"[00:01] on\n" + bytes(300) + b"[00:02] off\n[00:03] on")
    (document,) = read_documents(tmp_path / "a.log", timestamps=True)
    assert document.text == "on\noff\non" and [time for _, time in document.marks] == [1.0, 2.0, 3.0]


def test_a_short_line_is_not_held_back() -> None:
    cutter = LineCutter()
    assert [part.text for part in cutter.push(b"a\n")] == ["a"]
    assert not LineCutter().push(b"\xff\xfe")
    assert [part.text for part in LineCutter().push(b"\xff\xfe", final=True)] == []


@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-16-le"])
def test_a_wrong_byte_in_a_stream_is_replaced_or_an_error(encoding: str | None) -> None:
    name = encoding or "utf-8"
    wrong = b"\x00\xd8" if name == "utf-16-le" else b"\xff"
    data = "año\nbad ".encode(name) + wrong + " byte\nend €\n".encode(name)
    for size in (1, 2, len(data)):
        cutter = LineCutter(encoding)
        found = [one for i in range(0, len(data), size) for one in cutter.push(data[i : i + size])]
        assert [part.text for part in found if part.ends] == ["año", "bad \ufffd byte", "end €"]
        assert cutter.wrong
    fine = LineCutter(encoding, "strict")
    assert fine.push("año\n".encode(name)) and not fine.wrong
    with pytest.raises(LiquidError, match="--errors replace"):
        fine.push(wrong + " byte\n".encode(name))


def test_lines_with_times_are_written_as_they_are_read() -> None:
    assert TimedLines().push("\rone\u2028two\x0c\n\nthree", 1.0) == (
        "[00:00:01] \rone\u2028two\x0c\n\n[00:00:01] three"
    )


def test_settings_are_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / "a.toml").write_bytes(f'{mark}paths = ["año.txt"]'.encode())
        assert read_config(tmp_path / "a.toml") == {"paths": ["año.txt"]}


def test_names_of_bytes_that_are_no_characters_can_be_printed() -> None:
    assert printable("año\udcff.txt: empty") == "año\ufffd.txt: empty"
