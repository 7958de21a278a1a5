"""Processes as torchrun starts them, forked instead: they import the package once, together."""

import os
import socket
import sys
import traceback
from collections.abc import Callable


def fork(count: int, work: Callable[[], object]) -> list[int]:
    """Exit codes of `count` processes that do this work as one group."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        sys.stdout.flush()
        if not (child := os.fork()):
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "forked"}
            os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            os.environ |= {"TORCHELASTIC_RESTART_COUNT": "0"}
            os._exit(_done(work))
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _done(work: Callable[[], object]) -> int:
    try:
        work()
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
