"""States that clients keep by name: in memory, or in a folder, where they outlive the server."""

import json
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import LiquidError, first_line
from ..nn.state import CellState, LiquidCache
from ..runtime.files import write_file
from .prefixes import Base, Snapshot

SUFFIX, HEADER = ".safetensors", "liquid_named_state"


class NoSuchState(LiquidError):
    """There is no state of this name."""

    def __init__(self, name: str):
        super().__init__(f"there is no state {name!r} here: keep one with POST /liquid/states")


class StateExists(LiquidError):
    """A state of this name exists, or there is no room for another."""


class NotKept(Exception):
    """The server cannot write a state."""


@dataclass(frozen=True)
class NamedState:
    """A kept state.

    Attributes:
        name: of the state.
        base: what a prompt goes on from.
        created: when it was kept, in seconds since 1970.
    """

    name: str
    base: Base
    created: int

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.base.snapshot.nbytes + self.base.tail.nbytes


@dataclass(frozen=True)
class StateFacts:
    """What a list says of a state: its name, the tokens read, bytes, and when it was kept."""

    name: str
    tokens: int
    nbytes: int
    created: int


class StateStore(ABC):
    """States by name. Its methods may be called from several threads.

    Args:
        most: number of states.
        most_bytes: memory or disk for all of them.
        model: says whose the states are (weights, their type, tokenizer).
    """

    def __init__(self, most: int, most_bytes: int, model: str = ""):
        self.most, self.most_bytes, self.model = most, most_bytes, model
        self._lock = threading.Lock()

    @abstractmethod
    def get(self, name: str) -> NamedState:
        """The state of this name.

        Raises:
            NoSuchState: there is no state of this name.
        """

    def add(self, state: NamedState, over: bool = False) -> None:
        """Keep a state; `over` replaces one of the same name.

        Raises:
            StateExists: there is one of this name, or no room.
            NotKept: it cannot be written.
        """
        with self._lock:
            others = {each.name: each.nbytes for each in self.facts()}
            if others.pop(state.name, None) is not None and not over:
                raise StateExists(
                    f"there is a state {state.name!r} already: choose another name, or set replace to true"
                )
            if len(others) >= self.most or sum(others.values()) + state.nbytes > self.most_bytes:
                raise StateExists(
                    f"there is no room for another state: {len(others)} are kept ({self.most:,} and"
                    f" {self.most_bytes >> 20:,} MiB at most); delete one"
                )
            self._write(state, over)

    @abstractmethod
    def _write(self, state: NamedState, over: bool) -> None:
        """Keep a state."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Forget a state.

        Raises:
            NoSuchState: there is no state of this name.
        """

    @abstractmethod
    def facts(self) -> list[StateFacts]:
        """The states, in the order of their names."""


class StatesInMemory(StateStore):
    """States that end with the server."""

    def __init__(self, most: int, most_bytes: int, model: str = ""):
        super().__init__(most, most_bytes, model)
        self._states: dict[str, NamedState] = {}

    def get(self, name: str) -> NamedState:
        """As in `StateStore`."""
        if (found := self._states.get(name)) is None:
            raise NoSuchState(name)
        return found

    def _write(self, state: NamedState, over: bool) -> None:
        self._states[state.name] = state

    def remove(self, name: str) -> None:
        """As in `StateStore`."""
        if self._states.pop(name, None) is None:
            raise NoSuchState(name)

    def facts(self) -> list[StateFacts]:
        """As in `StateStore`."""
        return [facts_of(self._states[name]) for name in sorted(self._states)]


def facts_of(state: NamedState) -> StateFacts:
    """What a list says of a state."""
    return StateFacts(state.name, state.base.snapshot.length, state.nbytes, state.created)


class StatesInFolder(StateStore):
    """States in the files of a folder, which several servers of one model may share.

    A file is read again when it has changed. Files of other models are left alone.

    Args:
        folder: is made if it does not exist.
        model: says whose the states are (weights, their type, tokenizer).
        most: number of states.
        most_bytes: disk for all of them.

    Raises:
        LiquidError: the folder cannot be made.
    """

    def __init__(self, folder: Path, model: str, most: int, most_bytes: int):
        super().__init__(most, most_bytes, model)
        self.folder = folder
        self._read: dict[str, tuple[tuple[int, ...], NamedState]] = {}
        self._known: dict[str, tuple[tuple[int, ...], StateFacts]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LiquidError(f"the folder of states {folder} cannot be made: {first_line(error)}") from error

    def get(self, name: str) -> NamedState:
        """As in `StateStore`; also raises LiquidError if the file is damaged or of another model."""
        mark = self._mark(name)
        if mark is None:
            self._read.pop(name, None)
            raise NoSuchState(name)
        found = self._read.get(name)
        if found is None or found[0] != mark:
            found = self._read[name] = mark, _load(self._path(name), name, self.model)
        return found[1]

    def _write(self, state: NamedState, over: bool) -> None:
        path = self._path(state.name)
        try:
            with _reserved(path, over):
                _save(path, state, self.model)
        except StateExists:
            raise
        except LiquidError as error:  # no mistake of the client
            raise NotKept(str(error)) from error

    def remove(self, name: str) -> None:
        """As in `StateStore`."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise NoSuchState(name) from None
        self._read.pop(name, None)

    def facts(self) -> list[StateFacts]:
        """As in `StateStore`; of this model only."""
        found = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            name = _name(path)
            if (mark := self._mark(name)) is None:
                continue
            known = self._known.get(name)
            if known is None or known[0] != mark:
                try:
                    header = _header(path, self.model)
                except LiquidError:
                    continue
                size = path.stat().st_size
                facts = StateFacts(name, int(header["length"]), size, int(header["created"]))
                known = self._known[name] = mark, facts
            found.append(known[1])
        return found

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _mark(self, name: str) -> tuple[int, ...] | None:
        """What changes with a file; None without it, or while it is written for the first time."""
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found.st_size else None


def _name(path: Path) -> str:
    """The name of a file's state: messages go to clients, who need not know the server's folders."""
    return path.name.removesuffix(SUFFIX)


@contextmanager
def _reserved(path: Path, over: bool) -> Iterator[None]:
    """Make sure that no other server keeps a state of this name at the same time."""
    if over:
        yield
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        raise StateExists(
            f"there is a state {path.name.removesuffix(SUFFIX)!r} already: choose another name"
        ) from None
    except OSError as error:
        raise LiquidError(f"the state cannot be kept in {path}: {first_line(error)}") from error
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _save(path: Path, state: NamedState, model: str) -> None:
    snapshot = state.base.snapshot
    tensors = LiquidCache.of_states(snapshot.states, snapshot.length).tensors()
    tensors["tail"] = torch.from_numpy(state.base.tail.copy())
    for name, part in (("logits", snapshot.logits), ("features", snapshot.features)):
        if part is not None:
            tensors[name] = part.contiguous()
    header = {
        "model": model,
        "length": snapshot.length,
        "created": state.created,
        "identity": state.base.identity.hex(),
        "layers": len(snapshot.states),
    }
    write_file(path, lambda part: save_file(tensors, part, {HEADER: json.dumps(header)}))


def _header(path: Path, model: str) -> dict[str, str]:
    """The header of a file.

    Raises:
        LiquidError: it is not a state, damaged, or of another model.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise LiquidError(f"the state {_name(path)!r} is not readable: delete it") from error
    if header.get("model") != model:
        raise LiquidError(
            f"the state {_name(path)!r} is of another model, or of other --weights: keep it again, or"
            " delete it"
        )
    return header


def _load(path: Path, name: str, model: str) -> NamedState:
    header = _header(path, model)
    try:
        with safe_open(path, "pt") as file:
            tensors = {each: file.get_tensor(each).clone() for each in file.keys()}  # noqa: SIM118
        length, layers = int(header["length"]), int(header["layers"])
        states = cast(list[CellState], LiquidCache(layers).load_tensors(tensors, length).states())
        snapshot = Snapshot(length, states, tensors.get("logits"), tensors.get("features"))
        tail = tensors["tail"].numpy().astype(np.int64)
        base = Base(snapshot, bytes.fromhex(str(header["identity"])), tail)
        return NamedState(name, base, int(header["created"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise LiquidError(f"the state {_name(path)!r} is not readable: delete it") from error


def renamed(state: NamedState, name: str) -> NamedState:
    """A fork: the same state by another name. Tensors are shared, as none is ever changed."""
    return replace(state, name=name, created=int(time.time()))
