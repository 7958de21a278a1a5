"""Files and folders are written whole or not at all; files of other programs are not touched."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from liquidlm.errors import LiquidError
from liquidlm.runtime import checksums
from liquidlm.runtime.checksums import verify
from liquidlm.runtime.files import probe, write_file, write_text
from liquidlm.runtime.folders import merge_into, recover, recover_all, remove_folder, write_folder

CALLS = ("open", "close", "mkdir", "rmdir", "rename", "replace", "unlink", "fsync", "chmod", "listdir")
"""Calls that change a disk, or come between two changes."""


class Stopped(BaseException):
    """The moment at which a process is interrupted, or dies."""


@contextmanager
def stopped(at: int, after: bool, dead: bool) -> Iterator[None]:
    """A call of the system, number `at`, raises Stopped, before or `after` it is done; all later ones too if
    the process is `dead`, and what it held open is closed."""
    real, count, held = {name: getattr(os, name) for name in CALLS}, 0, set()

    def call(name: str, *arguments, **options):
        nonlocal count
        if name == "close":
            held.discard(arguments[0])
            return real[name](*arguments)
        count += 1
        if (dead and count > at) or (count == at and not after):
            raise Stopped
        try:
            result = real[name](*arguments, **options)
            if name == "open":
                held.add(result)
            return result
        finally:
            if count == at:
                raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, lambda *a, _name=name, **o: call(_name, *a, **o))
        try:
            yield
        finally:
            patch.undo()
            for descriptor in held:
                real["close"](descriptor)


NAMES = ("config.json", "weights", "a", "z", "more")  # in whatever order the disk lists them


def fill(text: str):
    def write(part: Path) -> None:
        for name in NAMES:
            (part / name).write_text(text)

    return write


def content(folder: Path) -> str:
    """The version of a folder, which is whole."""
    verify(folder)
    (version,) = {(folder / name).read_text() for name in NAMES}
    return version


@pytest.mark.parametrize("dead", [False, True], ids=["interrupted", "killed"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_folder_is_the_old_or_the_new_one_wherever_its_writing_stops(
    tmp_path: Path, dead: bool, after: bool
) -> None:
    folder = tmp_path / "model"
    seen = set()
    for at in range(1, 200):
        write_folder(folder, fill("old"))
        assert os.listdir(tmp_path) == ["model"]
        with suppress(Stopped), stopped(at, after, dead):
            write_folder(folder, fill("new"))
            break
        if not dead:  # no folder is missing then even for a moment after
            assert folder.is_dir()
        recover_all(tmp_path)
        seen.add(content(folder))
        assert os.listdir(tmp_path) == ["model"]
    else:
        raise AssertionError("the writing never ends")
    assert at > 15 and seen == {"old", "new"}


@pytest.mark.parametrize("dead", [False, True], ids=["interrupted", "killed"])
def test_a_model_that_is_merged_is_undamaged_or_none(tmp_path: Path, dead: bool) -> None:
    seen = set()
    for at in range(1, 200):
        merge_into(tmp_path, fill("old"), seal="config.json")
        (tmp_path / "curve").write_text("the user's")
        with suppress(Stopped), stopped(at, False, dead):
            merge_into(tmp_path, fill("new"), seal="config.json")
            break
        recover(tmp_path / "export")
        sealed = tmp_path / "config.json"
        version = sealed.read_text() if sealed.exists() else None
        if version is not None:
            assert {(tmp_path / name).read_text() for name in NAMES} == {version}
        if (tmp_path / checksums.MANIFEST).exists():
            assert content(tmp_path) == version
        seen.add(version)
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    else:
        raise AssertionError("the merging never ends")
    assert seen == {"old", None, "new"}
    assert (tmp_path / "curve").read_text() == "the user's"


def test_a_folder_that_is_removed_does_not_come_back_by_halves(tmp_path: Path) -> None:
    seen = set()
    for at in range(1, 200):
        write_folder(tmp_path / "model", fill("old"))
        with suppress(Stopped), stopped(at, False, dead=True):
            remove_folder(tmp_path / "model")
            break
        recover_all(tmp_path)
        seen.add(content(tmp_path / "model") if os.listdir(tmp_path) else None)
    assert len(seen) == 2 and not os.listdir(tmp_path)


@pytest.mark.parametrize("dead", [False, True], ids=["interrupted", "killed"])
def test_a_file_is_the_old_or_the_new_one_wherever_its_writing_stops(tmp_path: Path, dead: bool) -> None:
    file, seen, at = tmp_path / "a state", set(), 0
    for at in range(1, 200):
        write_text(file, "old")
        assert os.listdir(tmp_path) == [file.name]  # left-overs of the last time are gone
        with suppress(Stopped), stopped(at, False, dead):
            write_text(file, "new")
            break
        seen.add(file.read_text())
    assert at > 5 and seen == {"old", "new"}


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch) -> None:
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename")}

    def synced(descriptor: int) -> None:
        done.append("sync " + ("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        real["fsync"](descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, lambda *a, _name=name: (done.append(_name), real[_name](*a)))
    write_text(tmp_path / "file", "x")
    assert done == ["sync file", "replace", "sync folder"]
    done.clear()
    write_folder(tmp_path / "folder", fill("x"))
    assert done == ["sync file"] * (len(NAMES) + 1) + ["sync folder", "rename", "sync folder"]


def test_files_of_the_user_with_names_like_ours_are_left_alone(tmp_path: Path) -> None:
    names = [".a.part", "a.part", ".a.old", ".a.tmp", ".a.liquidlm-1.part", ".a.liquidlm-0123456789ab.bak"]
    for name in names:
        (tmp_path / name).write_text("the user's")
    write_text(tmp_path / "a", "ours")
    (tmp_path / "a").unlink()
    for version in ("old", "new"):
        write_folder(tmp_path / "a", fill(version))
    remove_folder(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).read_text() == "the user's" for name in names)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/file")
    for text in ("first", "second"):  # the first time it dangles
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "file").read_text() == text
    (tmp_path / "disk" / "model").mkdir()
    (tmp_path / "model").symlink_to("disk/model")
    write_folder(tmp_path / "model", fill("new"))
    assert (tmp_path / "model").is_symlink() and content(tmp_path / "disk" / "model") == "new"
    (tmp_path / "weights").symlink_to("disk/weights")
    merge_into(tmp_path, fill("merged"), seal="config.json")
    assert (tmp_path / "weights").is_symlink() and content(tmp_path) == "merged"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(LiquidError, match=r"cannot write .*round"):
        write_text(tmp_path / "round", "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are Unix's")
def test_devices_and_pipes_are_written_to_as_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    probe(tmp_path / "link")
    write_text(tmp_path / "link", "said")
    reader.join()
    assert read == ["said"] and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    write_text("/dev/null", "x")
    assert not Path("/dev/null").is_file()
    before = os.listdir(tmp_path)
    with (tmp_path / "out").open("w") as stream:  # as a shell that sends standard output to a file
        write_text(f"/dev/fd/{stream.fileno()}", "x")
        assert os.fstat(stream.fileno()).st_nlink == 1
    assert (tmp_path / "out").read_text() == "x" and len(os.listdir(tmp_path)) == len(before) + 1


@pytest.mark.skipif(os.name != "posix", reason="permissions are Unix's")
def test_permissions_are_those_of_the_file_that_was_there_or_as_the_umask_has_them(tmp_path: Path) -> None:
    def private(part: Path) -> None:  # as safetensors writes them
        part.write_text("x")
        part.chmod(0o600)

    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", private)
        write_folder(tmp_path / "folder", lambda part: private(part / "file"))
    finally:
        os.umask(before)
    for new in (tmp_path / "file", tmp_path / "folder" / "file"):
        assert stat.S_IMODE(new.stat().st_mode) == 0o640
    (tmp_path / "file").chmod(0o604)
    write_file(tmp_path / "file", private)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o604


def test_what_another_process_is_making_is_left_to_it(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="folders are locked on Unix")

    def meanwhile(part: Path) -> None:
        write_folder(tmp_path / "model", fill("other"))
        recover_all(tmp_path)
        fill("mine")(part)

    write_folder(tmp_path / "model", meanwhile)
    assert content(tmp_path / "model") == "mine"
    assert os.listdir(tmp_path) == ["model"]


CAUSES = {
    errno.ENOSPC: "free some space",
    errno.EACCES: "change its permissions",
    errno.EROFS: "Read-only file system; change",
}


@pytest.mark.parametrize(("number", "said"), CAUSES.items())
def test_what_keeps_a_file_from_being_written_is_said(tmp_path: Path, number: int, said: str) -> None:
    def fails(part: Path) -> None:
        raise OSError(number, os.strerror(number))

    for write in (write_file, write_folder):
        with pytest.raises(LiquidError, match=f"cannot write .*{said}.*choose another place"):
            write(tmp_path / "a", fails)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("write", [probe, lambda path: write_text(path, "x")], ids=["probe", "write"])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, write, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("the user's")
    for place in (".", "", "/", tmp_path):
        with pytest.raises(LiquidError, match="s a directory; give the name of a file"):
            write(place)
    with pytest.raises(LiquidError, match="no/state: No such file or directory; make its folder"):
        write("no/state")
    for place in ("file/state", "x" * 300):
        with pytest.raises(LiquidError, match="cannot write") as refused:
            write(place)
        assert "space" not in str(refused.value)
    with pytest.raises(LiquidError, match=r"File exists; give the name of a folder.*choose another place"):
        write_folder(tmp_path / "file", fill("x"))
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "the user's"


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    name = "é" * 127
    for version in ("old", "new"):
        write_text(tmp_path / name, version)
    assert (tmp_path / name).read_text() == "new"
    (tmp_path / name).unlink()
    for version in ("old", "new"):
        write_folder(tmp_path / name, fill(version))
    assert os.listdir(tmp_path) == [name] and content(tmp_path / name) == "new"
