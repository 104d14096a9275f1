"""Keeping freed memory is asked for in our own processes only, and is harmless elsewhere."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from edgescope.allocator import keep_freed_memory

FAULTS = """
import ctypes, resource
from edgescope.allocator import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
SIZE = 64 * 2**20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(SIZE)))
        ctypes.memset(block, 1, SIZE)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
usual = faults()
assert keep_freed_memory()
faults()
print(usual, faults())
"""


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_freed_block_is_used_again_without_page_faults() -> None:
    said = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True, text=True)
    usual, kept = map(int, said.stdout.split())
    assert usual > 100  # every page of every block, or every huge page
    assert kept < 10


RETURNED = """
import ctypes, re
from edgescope.allocator import keep_freed_memory, return_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def resident():
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))

keep_freed_memory()
before = resident()
blocks = [ctypes.c_void_p(libc.malloc(ctypes.c_size_t(2**20))) for _ in range(65)]
for block in blocks:
    ctypes.memset(block, 1, 2**20)
for block in blocks[:-1]:
    libc.free(block)
kept = resident() - before
assert not return_freed_memory(2**20)  # too small to count
assert resident() - before == kept
assert return_freed_memory(2**23)
print(kept, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a function of glibc")
def test_freed_blocks_below_one_in_use_go_back_to_the_system() -> None:
    said = subprocess.run([sys.executable, "-c", RETURNED], capture_output=True, check=True, text=True)
    kept, left = map(int, said.stdout.split())
    assert kept > 60 * 2**20
    assert left < 10 * 2**20
