"""Freed memory that stays: large tensors made again and again cost no page faults."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from worldjepa.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10, 2**20)
    torch.ones(20, 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_pages_are_faulted_in_once() -> None:
    # The last of twenty rounds is counted: a small block in the way lets the heap grow for up to ten of them.
    # Another process is asked where one fails: a mapping may lie above the heap, so that it can't grow.
    assert any(faults("keep") < 1000 for _ in range(3))
    assert faults("leave") > 1000
