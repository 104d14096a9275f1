"""Freed memory: kept in the process, for fewer page faults where the same temporaries come and go, or given back."""

from __future__ import annotations

import ctypes
import platform
from typing import Final

KEPT_BYTES: Final = 2**30
LARGE: Final = 2**22
"""Bytes of a vector above which what the allocator does not reuse at once counts."""
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks below 1 GiB for reuse. Returns whether it will; False with any other C library.

    By default glibc maps every block above 32 MiB anew and returns it when it is freed, so that the same temporaries of
    a curvature product cause page faults at every step: 15 to 20% of the time of products of a small transformer. The
    price is that the process keeps as much memory as it ever used, plus a few times its largest block, since aligned
    blocks leave gaps until the heap has settled. The setting holds for the whole process, so only our own processes
    call this (the command line, workers of a sweep), never the library on import.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(M_MMAP_THRESHOLD, KEPT_BYTES), mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)])


def return_freed_memory(size: int) -> bool:
    """Ask glibc to give freed blocks back to the system now, if vectors of this ``size`` in bytes are among them.

    Returns whether it did; False with any other C library, and for vectors of less than 4 MiB.

    Small blocks (those of a transformer's layers, below 32 MiB) are kept for reuse, so that the process holds as much
    as it ever used: after a check in double precision 7 to 10 vectors of the size of a model. No setting is changed.
    """
    if size < LARGE or platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):
        return False
