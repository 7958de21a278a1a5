"""Every file is UTF-8, whatever the locale; the error for another file names its format."""

import ast
from pathlib import Path

import pytest

from liquidlm.errors import LiquidError, printable
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
        ("\ufeffaño".encode("utf-16-le"), r"UTF-16 text, not UTF-8; convert it \(iconv -f UTF-16 -t UTF-8\)"),
        ("hello there".encode("utf-16-le"), "UTF-16LE text"),
        ("hello there".encode("utf-16-be"), "UTF-16BE text"),
        ("hello".encode("utf-32"), "UTF-32 text"),
        ("año".encode("latin-1"), "0xf1 at byte 1; convert it to UTF-8 .*iconv -f LATIN1"),
        (b"\x1f\x8b\x08\0", "compressed with gzip: let its name end in .gz"),
        (b"PK\x03\x04\0", "zip"),
        (b"\0\0\0\0\0", "NUL byte at byte 0"),
    ],
)
@pytest.mark.parametrize("longest", [1, None])
def test_what_is_not_utf8_is_named(tmp_path: Path, data: bytes, said: str, longest: int | None) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(LiquidError, match=said):
        list(read_documents(tmp_path / "a.txt", longest))


def test_settings_are_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / "a.toml").write_bytes(f'{mark}paths = ["año.txt"]'.encode())
        assert read_config(tmp_path / "a.toml") == {"paths": ["año.txt"]}


def test_names_of_bytes_that_are_no_characters_can_be_printed() -> None:
    assert printable("año\udcff.txt: empty") == "año\ufffd.txt: empty"
