"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from liquidlm.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for count in range(40):
    if count == 10:
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(2**22) for _ in range(3)]  # 16 MiB each, 4,096 pages
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_kept_memory_is_not_faulted_in_again():
    def faults(what):
        command = [sys.executable, "-c", SCRIPT, what]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < 4096 < faults("leave")
