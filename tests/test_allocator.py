"""Freed memory stays with the process."""

import platform

import pytest

from tests import warm

SCRIPT = """
import resource, sys, torch
if sys.argv[1] == "keep":
    from liquidlm.runtime.allocator import keep_freed_memory
    keep_freed_memory()
for count in range(14):
    if count == 10:
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor = torch.ones(2**24)  # 64 MiB, 16,384 pages: more than glibc ever keeps of itself
    del tensor
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_kept_memory_is_not_faulted_in_again():
    def faults(what):
        return int(warm.run([what], program=SCRIPT).stdout)

    assert faults("keep") < 16384 < faults("leave")


THREADS = """
import sys, threading
from pathlib import Path
from liquidlm.runtime.allocator import keep_freed_memory, share_freed_memory
keep_freed_memory()
if sys.argv[1] == "share":
    share_freed_memory()
turn, stay = threading.Lock(), threading.Barrier(7)

def work():
    with turn:
        bytes(2**24).count(1)  # written by the first who reads it
        bytearray(b"1" * 2**24)
    stay.wait()

for _ in range(6):
    threading.Thread(target=work).start()
with turn:
    pass
stay.wait()
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_threads_use_what_other_threads_have_freed():
    def peak_kb(what):
        return int(warm.run([what], program=THREADS).stdout)

    assert peak_kb("leave") - peak_kb("share") > 2**16  # 4 of the 6 threads' 16 MiB, at least
