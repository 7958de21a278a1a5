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
