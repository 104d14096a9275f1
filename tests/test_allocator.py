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
