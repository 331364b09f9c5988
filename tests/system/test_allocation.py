"""Freed memory stays with the process until it is released."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from captioner.system.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
    keep_freed_memory()
bytearray(100_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(100_000_000)[::4096]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


RESIDENT = """
import resource
from captioner.system.allocation import give_back_freed_memory, keep_freed_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
keep_freed_memory()
blocks = [bytearray(1_000_000) for _ in range(200)]
last = bytearray(1_000_000)
full = resident()
del blocks
kept = resident()
give_back_freed_memory()
print(full - kept, full - resident())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")


@glibc
def test_large_blocks_are_not_asked_for_again() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 4


@glibc
def test_what_is_kept_can_be_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", RESIDENT], check=True, capture_output=True, text=True)
    kept, given_back = map(int, done.stdout.split())
    assert kept < 20e6
    assert given_back > 180e6
