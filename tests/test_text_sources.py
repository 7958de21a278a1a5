"""Text that can be read only once is kept beside the run; what is no text to read is refused at once."""

import io
import os
import socket
import sys
import threading
from pathlib import Path

import pytest
from training import settings

from liquidlm.errors import LiquidError
from liquidlm.training.text import prepare
from liquidlm.training.text_sources import rereadable_paths

TEXT = "Ein Wort, año über año. " * 40


@pytest.fixture
def pipe(tmp_path: Path):
    """A function that makes a named pipe, with somebody who writes these bytes to it."""
    threads = []

    def made(name: str, data: bytes) -> str:
        os.mkfifo(tmp_path / name)
        threads.append(threading.Thread(target=(tmp_path / name).write_bytes, args=(data,)))
        threads[-1].start()
        return str(tmp_path / name)

    yield made
    for thread in threads:
        thread.join()


def test_a_pipe_is_read_once_and_kept(pipe, tmp_path: Path) -> None:
    paths, valid = rereadable_paths(
        [pipe("p", TEXT.encode())], [pipe("v.jsonl", b'{"text": "held out"}')], tmp_path
    )
    assert Path(paths[0]).read_text(encoding="utf-8") == TEXT
    assert Path(valid[0]).name == "input-1.jsonl"
    texts = prepare(settings(Path(paths[0]), valid=valid, batch_size=1))
    assert texts.train.text_bytes == len(TEXT.encode()) and texts.final.text_bytes == len("held out")


def test_a_descriptor_of_this_process_is_kept_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    with (tmp_path / "a.txt").open("rb") as stream:  # what /dev/stdin is to `train /dev/stdin < a.txt`
        (path,), _ = rereadable_paths([f"/dev/fd/{stream.fileno()}"], [], tmp_path)
    assert path != str(tmp_path / "a.txt")
    assert Path(path).read_text(encoding="utf-8") == TEXT


def test_what_cannot_be_kept_is_one_clear_error(pipe, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "run").mkdir()
    for data, said in ((b"", "empty"), (b"a\0b\0", "utf-16-le text, not UTF-8"), (b"a\0\0b", "NUL byte")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(LiquidError, match=f"standard input: .*{said}"):
            rereadable_paths(["-"], [], tmp_path / "run")
    with pytest.raises(LiquidError, match="given as text and as held-out text"):
        rereadable_paths(["-"], ["-"], tmp_path)
    with pytest.raises(LiquidError, match="not a file or a pipe"):
        rereadable_paths(["/dev/zero"], [], tmp_path)
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(tmp_path / "s"))
        with pytest.raises(LiquidError, match="not a file or a pipe"):
            rereadable_paths([str(tmp_path / "s")], [], tmp_path)
    assert not any((tmp_path / "run").glob("*"))
