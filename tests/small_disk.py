"""A folder on a disk with little space, for tests: a tmpfs where the machine lets us, else a limit on files."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path


def mount(place: Path, options: str) -> bool:
    """Whether a tmpfs could be mounted, which takes root and the right to."""
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def small_disk(place: Path, kib: int) -> Iterator[Callable[[], None]]:
    """While the block runs, ``place`` has ``kib`` KiB of space for all; what it gets lifts that.

    Where nothing can be mounted no file can grow beyond as many KiB instead, which the system tells by another number.
    """
    place.mkdir(exist_ok=True)
    if mount(place, f"size={kib}k"):
        try:
            yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True) and None
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kib, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """While the block runs nothing in ``place``, which :func:`small_disk` may have mounted, can be written."""
    if subprocess.run(["mount", "-o", "remount,ro", str(place)], capture_output=True).returncode == 0:
        yield
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        return
    inside = [place, *place.rglob("*")]
    for path in inside:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in inside:
            path.chmod(0o755 if path.is_dir() else 0o644)
