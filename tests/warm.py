"""Processes without their imports: one process imports the package, and each command is a fork of it.

Such a process has its own streams, folder, environment, session and exit code, as if Python had started it,
but it begins after the imports. Tests of what happens during the imports start a Python of their own.
"""

import array
import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOADED = (
    *("liquidlm.cli.main", "liquidlm.cli.session", "liquidlm.cli.writer", "liquidlm.inference.timed_text"),
    *("liquidlm.inference.hub_models", "liquidlm.training.loop", "scipy.special", "safetensors.torch"),
)
"""What the first process imports."""


class Process:
    """A fork, with what the tests use of `subprocess.Popen`."""

    def __init__(self, reply: socket.socket):
        self._reply, self.returncode = reply, None
        self.pid = self._number()

    def _number(self) -> int:
        data = self._reply.recv(4, socket.MSG_WAITALL)
        assert len(data) == 4, "the process that forks has ended"
        return int.from_bytes(data, "little", signed=True)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None and select.select([self._reply], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        if self.returncode is None:
            if not select.select([self._reply], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout or 0.0)
            self.returncode = self._number()
            self._reply.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it runs still."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _first() -> socket.socket:
    """The way to the process that imports and forks; it ends when this one ends."""
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    theirs.close()

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def start(
    words: Sequence[object],
    stdin: int,
    stdout: int,
    stderr: int,
    program: str | None = None,
    cwd: object = ".",
    env: dict[str, str] | None = None,
    session: bool = False,
) -> Process | subprocess.Popen[bytes]:
    """Start `liquidlm words…`, or a program with these arguments.

    Args:
        words: words of the command line.
        stdin: a descriptor, and so are stdout and stderr.
        program: Python source; None is the command `liquidlm`.
        cwd: the folder that it runs in.
        env: variables beside those of this process.
        session: it leads a session of its own; a terminal at its input becomes that session's.
    """
    request = {"words": list(map(str, words)), "program": program, "cwd": os.path.abspath(str(cwd))}
    request |= {"env": {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}, "session": session}
    if not hasattr(os, "fork"):
        return _fresh(request, stdin, stdout, stderr)
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as file, theirs:
        file.write(json.dumps(request).encode())
        file.flush()
        _send(_first(), [file.fileno(), stdin, stdout, stderr, theirs.fileno()])
    return Process(ours)


def run(
    words: Sequence[object] = (),
    input: bytes = b"",
    stdin: Any = None,
    timeout: float = 180,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run one to its end, as `subprocess.run` does; its input is `input`, or the file `stdin`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reader, writer = os.pipe()
        try:
            given = reader if stdin is None else stdin if isinstance(stdin, int) else stdin.fileno()
            process = start(words, given, out.fileno(), err.fileno(), **more)
            os.write(writer, input)
        finally:
            os.close(reader)
            os.close(writer)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="backslashreplace"))
    return subprocess.CompletedProcess(list(words), code, *said)


def liquidlm(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return run(words, **more)


def _fresh(asked: dict[str, Any], stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    """The same in a Python of its own: on Windows there are no forks."""
    program = ["-m", "liquidlm"] if asked["program"] is None else ["-c", asked["program"]]
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent), asked["env"].get("PYTHONPATH")]
    return subprocess.Popen(
        [sys.executable, *program, *asked["words"]],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=asked["cwd"],
        env={**asked["env"], "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        start_new_session=asked["session"],
    )


def _send(way: socket.socket, descriptors: list[int]) -> None:
    way.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


# ---- in the first process


def _serve(way: socket.socket) -> None:
    """Import, and fork when asked; curves are not drawn, as in other tests (conftest.py)."""
    progress = importlib.import_module("liquidlm.training.progress")
    for name in LOADED:
        importlib.import_module(name)
    progress.plot_curve = lambda entries, file: file
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(way, 1, 5)
        if not data:
            return None
        if os.fork() == 0:
            way.close()
            return _watch(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        while _reaped():
            pass


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _watch(request: int, stdin: int, stdout: int, stderr: int, reply: int) -> None:
    """Fork the process, and report its number and its exit code."""
    with os.fdopen(request, "rb") as file:
        file.seek(0)
        asked = json.load(file)
    if (child := os.fork()) == 0:
        os.close(reply)
        return _become(asked, (stdin, stdout, stderr))
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    with socket.socket(fileno=reply) as answer:
        answer.sendall(child.to_bytes(4, "little"))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer.sendall(code.to_bytes(4, "little", signed=True))
    os._exit(0)


def _become(asked: dict[str, Any], streams: tuple[int, int, int]) -> None:
    """Be the process that was asked for."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked["session"]:
        os.setsid()
        if os.isatty(0):
            import fcntl
            import termios

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    for path in filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep)):
        if path not in sys.path:
            sys.path.insert(0, path)
    sys.argv = ["-c", *asked["words"]]
    if asked["program"] is None:
        runpy.run_module("liquidlm", run_name="__main__", alter_sys=True)
    else:
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(asked["program"], "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    _serve(socket.socket(fileno=int(sys.argv[1])))
