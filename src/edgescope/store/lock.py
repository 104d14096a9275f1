"""Who writes to a folder: one process at a time, named in a small file that a killed process leaves behind.

The file (``record.lock`` for the record of a run) is made by whoever begins to write, if there is none, and removed
when that ends. It names the process and counts its commits; a thread touches it every few seconds. A lock is stale, and
taken over, where its process has ended: looked up by its id and start on the machine itself, and from elsewhere told by
a file that nobody touches.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import platform
import stat
import tempfile
import threading
import time
import weakref
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edgescope import atomic
from edgescope.atomic import AS_IT_IS, once_closed, place_aside
from edgescope.disk_errors import storage_faults
from edgescope.errors import RecordError
from edgescope.process_identity import machine, start_of

FILE: Final = "record.lock"

BEAT_SECONDS: Final = 10.0
"""Between two touches of a lock."""

STALE_SECONDS: Final = 120.0
"""Without a touch, after which a process of another machine is taken for gone."""

CHECK_SECONDS: Final = 1.0
"""Between two looks, before a commit, whether a lock is still ours: only one that nobody touched is taken over."""

_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""What a file system without hard links says."""


@dataclass(frozen=True)
class Holder:
    """The process that a lock names, and the number of ``commits`` it had made; ``untouched`` are seconds.

    ``pid`` is 0 where the file cannot be read, be it that its process is about to write it, or that it is damaged.
    """

    pid: int
    host: str
    machine: str
    start: str
    since: str
    commits: int
    untouched: float

    @property
    def alive(self) -> bool:
        """Whether the process lives, as far as this machine can tell."""
        if self.machine == machine():
            return start_of(self.pid) == self.start
        return self.untouched < STALE_SECONDS

    def __str__(self) -> str:
        if not self.pid:
            return f"a process that its lock does not name (touched {self.untouched:.0f} s ago)"
        here = self.machine == machine()
        touched = "" if here else f", its lock touched {self.untouched:.0f} s ago"
        return f"process {self.pid} on {self.host} since {self.since}{touched}"


def holder_of(folder: Path, name: str = FILE, now: float | None = None) -> Holder | None:
    """Who holds the lock ``name`` of ``folder``, dead or alive; None where there is none. Nothing is written.

    ``now`` is the time to count from when it was touched last, by default by the clock of this machine.
    """
    path = folder / name
    try:
        found = os.stat(path, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            with contextlib.suppress(PermissionError):
                descriptor = os.open(path, os.O_RDONLY | AS_IT_IS)
                try:
                    return _named_in(descriptor, now)
                finally:
                    os.close(descriptor)
    except FileNotFoundError:
        return None
    return Holder(0, "", "", "", "", 0, max(0.0, (time.time() if now is None else now) - found.st_mtime))


class RunLock:
    """The lock ``name`` of a folder, held by this process. ``stale`` was its holder before, where that had ended."""

    def __init__(self, folder: Path, name: str = FILE) -> None:
        """Take the lock; :class:`RecordError` that names the holder where another process, or this one, has it."""
        self.path = folder / name
        self.stale: Holder | None = None
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._checked = -math.inf
        with storage_faults(self.path, again="freeing space, then --resume"):
            self._descriptor, self._owner = self._take()
        _beat(self)

    def committed(self, number: int) -> None:
        """Keep the number of the commit that was just made, so that a later reader knows of it."""
        line = _line(self._owner, number)
        with contextlib.suppress(OSError):  # a hint for readers, no part of the commit
            if hasattr(os, "pwrite"):
                os.pwrite(self._descriptor, line, len(self._owner))
            else:  # Windows
                os.lseek(self._descriptor, len(self._owner), os.SEEK_SET)
                os.write(self._descriptor, line)

    def check(self) -> None:
        """Raise :class:`RecordError` where the lock is no longer ours; one that was removed by hand is made again."""
        if self._pid != os.getpid():
            raise RecordError(
                f"{self.path.parent} is written by process {self._pid}, which this one was forked from",
                hint="opening the record in the process that writes",
            )
        if time.monotonic() < self._checked + CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        if os.fstat(self._descriptor).st_nlink:
            return
        found = holder_of(self.path.parent, self.path.name)
        if found is not None:
            raise RecordError(f"{self.path.parent} was taken over by {found}", hint="another folder")
        with storage_faults(self.path):
            descriptor, owner = self._take()
        os.close(self._descriptor)
        self._descriptor, self._owner = descriptor, owner

    def beat(self) -> None:
        """Say that this process lives."""
        with self._guard, contextlib.suppress(OSError):
            if self._descriptor >= 0 and self._pid == os.getpid():
                os.utime(self._descriptor if os.utime in os.supports_fd else self.path)

    def release(self) -> None:
        """Let others have it; harmless when released already, or in a process that was forked from the holder."""
        with self._guard:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        in_place = False
        with contextlib.suppress(OSError):
            ours, there = os.fstat(descriptor), os.stat(self.path, follow_symlinks=False)
            in_place = self._pid == os.getpid() and (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
        os.close(descriptor)  # before it is removed, which Windows asks for; nobody takes over from a living process
        if in_place:
            with contextlib.suppress(OSError):
                once_closed(lambda: self.path.unlink(missing_ok=True))

    def _take(self) -> tuple[int, bytes]:
        for _ in range(100):
            owner = _owner()
            try:
                return _made(self.path, owner + _line(owner, 0)), owner
            except FileExistsError:
                self._remove_stale()
        raise RecordError(f"{self.path} is taken over again and again", hint="again later")

    def _remove_stale(self) -> None:
        """Remove the lock of a process that has ended; RecordError where it lives."""
        holder = holder_of(self.path.parent, self.path.name)
        if holder is None:
            return
        if self.path.is_symlink():
            raise RecordError(f"{self.path} is a symbolic link and not the lock of a run", hint="removing the link")
        if not holder.alive:
            holder = self._remove_dead()
        if holder is not None:
            raise RecordError(f"{self.path.parent} is being written by {holder}", hint=_what_to_do(holder, self.path))

    def _remove_dead(self) -> Holder | None:
        """Remove a lock that was found to be stale, unless another process has done so and made its own: its holder."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | AS_IT_IS)
        except FileNotFoundError:
            return None
        dead: Holder | None = None
        try:
            _lock_file(descriptor)  # whoever removes a lock has the system's lock on that very file
            now = time_of(self.path.parent)
            if os.fstat(descriptor).st_ino == os.stat(self.path, follow_symlinks=False).st_ino:
                dead = _named_in(descriptor, now)
                if dead.alive:
                    return dead
                if not atomic.OPEN_FILES_STAY:
                    self.path.unlink()
        except FileNotFoundError:
            dead = None
        finally:
            os.close(descriptor)
        if dead is not None and atomic.OPEN_FILES_STAY:
            # There the lock of who was faster cannot be removed, since that process has it open.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                once_closed(self.path.unlink)
        self.stale = dead or self.stale
        return None


def _made(path: Path, content: bytes) -> int:
    """A new file with this content, open; it has it from the first moment. FileExistsError where there is a file."""
    if atomic.OPEN_FILES_STAY:  # it could not be removed from where it lies aside
        return _written_in_place(path, content)
    aside = place_aside(path)
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | AS_IT_IS, 0o644)
    try:
        os.write(descriptor, content)
        os.link(aside, path, follow_symlinks=False)
    except BaseException as error:
        os.close(descriptor)
        if not isinstance(error, OSError) or error.errno not in _NO_LINKS:
            raise
    else:
        return descriptor
    finally:
        aside.unlink(missing_ok=True)
    return _written_in_place(path, content)


def _written_in_place(path: Path, content: bytes) -> int:
    """The same without hard links: a process that is killed here leaves an empty lock, stale after STALE_SECONDS."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | AS_IT_IS, 0o644)
    try:
        os.write(descriptor, content)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor


def _lock_file(descriptor: int) -> None:
    """Have the system lock an open file until it is closed; not where the file system cannot."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def time_of(folder: Path) -> float:
    """What the clock says by which the file system of ``folder`` tells when a file was touched, maybe a server's."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _named_in(descriptor: int, now: float | None = None) -> Holder:
    """The holder that an open lock names, at the time ``now``, by default by the clock of this machine."""
    found = os.fstat(descriptor)
    text = os.read(descriptor, 4096) if stat.S_ISREG(found.st_mode) else b""
    untouched = max(0.0, (time.time() if now is None else now) - found.st_mtime)
    owner, _, rest = text.partition(b"\n")
    owner += b"\n"
    try:
        commits = int(rest.split()[0])
        if rest != _line(owner, commits):
            raise ValueError(rest)
        named: dict[str, Any] = json.loads(owner)
        return Holder(**named, commits=commits, untouched=untouched)
    except (ValueError, IndexError, TypeError):
        return Holder(0, "", "", "", "", 0, untouched)


def _owner() -> bytes:
    named = {
        "pid": os.getpid(),
        "host": platform.node(),
        "machine": machine(),
        "start": start_of(os.getpid()) or "",
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(named).encode() + b"\n"


def _line(owner: bytes, commits: int) -> bytes:
    """The second line, always as long: the number of commits, and a checksum of both lines."""
    number = b"%020d" % commits
    return b"%b %08x\n" % (number, zlib.crc32(owner + number))


def _what_to_do(holder: Holder, path: Path) -> str:
    if holder.pid == os.getpid() and holder.machine == machine():
        return "closing the record, or the monitor, that this process has open"
    if holder.machine == machine():
        return "again once that process has ended"
    left = max(1.0, STALE_SECONDS - holder.untouched)
    return f"again in {left:.0f} s, or removing {path} if that process has ended"


class _Heart:
    """The thread that touches all locks of this process while there are any."""

    def __init__(self) -> None:
        self.locks: weakref.WeakSet[RunLock] = weakref.WeakSet()
        self.guard = threading.Lock()
        self.thread: threading.Thread | None = None

    def run(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with self.guard:
                held = [lock for lock in self.locks if lock._descriptor >= 0]
                if not held:
                    self.thread = None
                    return
            for lock in held:
                lock.beat()
            del held


# One thread a process, whatever number of runs it writes: what it says is that the process lives.
_heart = _Heart()


def _beat(lock: RunLock) -> None:
    with _heart.guard:
        _heart.locks.add(lock)
        if _heart.thread is None:
            _heart.thread = threading.Thread(target=_heart.run, name="edgescope-heartbeat", daemon=True)
            _heart.thread.start()


def _forget_after_fork() -> None:
    global _heart
    _heart = _Heart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
