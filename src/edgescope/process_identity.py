"""Which process this is, on which machine, and whether another process still lives."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import uuid
from pathlib import Path

import psutil


@functools.cache
def machine() -> str:
    """Where process ids mean the same as here: this boot of this machine, and this namespace of process ids.

    Two containers on one machine, or a machine before and after it was started anew, are two places.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return f"{platform.node()}/{uuid.getnode():012x}"


def machine_key() -> str:
    """:func:`machine` in eight characters, for names of files."""
    return hashlib.blake2b(machine().encode(), digest_size=4).hexdigest()


def start_of(pid: int) -> str | None:
    """When a process of this machine started, to tell it from a later one of the same id; None where it has ended.

    On Linux in clock ticks since the machine was started, which setting the clock does not change.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
        return None if state in "ZXx" else fields[18]  # a zombie has ended; field 22 is the start
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return None
