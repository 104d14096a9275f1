"""Reading a file that may have been made to do harm: what it can cost is bounded before it is spent."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from edgescope.errors import InputError

GZIP: Final = b"\x1f\x8b"
RATIO: Final = 200
"""How many times its own size a compressed file may grow: published ones grow by less than 10, a bomb by 1,000."""

ALWAYS: Final = 2**20
"""Bytes that a compressed file may hold whatever its ratio: a short file of equal bytes is no bomb."""

_CHUNK: Final = 2**16
_WITH_HEADER: Final = 31  # zlib: a gzip header, and a window of any size


class BoundedFile:
    """The bytes of a regular file of at most ``most`` bytes, decompressed where it is gzip; a context manager.

    :attr:`size` is that of the file as it lies there, :attr:`most` what it can hold. Memory grows with the bytes that
    were read, never with what a header promises. Anything but a regular file (a pipe, a device), a file that cannot be
    read, and a compressed one that grows beyond ``most`` or :data:`RATIO` times its size raise :class:`InputError`.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self._file = _open_regular(path)
        self.size = os.fstat(self._file.fileno()).st_size
        self.most = min(most, self.size)
        self._given, self._ready, self._rest, self._eof = 0, bytearray(), b"", False
        self._unzip: zlib._Decompress | None = None
        with contextlib.ExitStack() as unless_open:
            unless_open.enter_context(self)
            if self._fetch(len(GZIP)) and self._ready == GZIP:
                self._rest, self._ready = GZIP, bytearray()
                self._unzip, self.most = zlib.decompressobj(_WITH_HEADER), min(most, max(ALWAYS, RATIO * self.size))
            elif self.size > most:
                raise InputError(f"'{path}' holds {self.size:,} bytes", expected=f"at most {most:,}")
            unless_open.pop_all()

    @property
    def plain(self) -> bool:
        """Whether the file is not compressed; :attr:`size` then counts all that it holds."""
        return self._unzip is None

    def read(self, count: int) -> bytearray:
        """The next ``count`` bytes, fewer at the end of the file. Costs memory of what is read, in small pieces."""
        taken = bytearray()
        count = min(count, self.most - self._given + 1)
        while len(taken) < count and (self._ready or self._fetch(min(_CHUNK, count - len(taken)))):
            piece = self._ready[: count - len(taken)]
            del self._ready[: len(piece)]
            taken += piece
        self._given += len(taken)
        if self._given > self.most and self.plain:
            raise InputError(f"'{self.path}' grew while it was read", expected="a file that nothing writes to")
        if self._given > self.most:
            raise InputError(
                f"'{self.path}' of {self.size:,} bytes grows to more than {self.most:,} when it is decompressed",
                hint="decompressing it first, if it is no forgery",
            )
        return taken

    def skip(self, count: int) -> bool:
        """Pass over ``count`` bytes; False where the file ends before."""
        while count > 0:
            passed = len(self.read(min(_CHUNK, count)))
            if not passed:
                return False
            count -= passed
        return True

    def _fetch(self, count: int) -> bool:
        """Make a piece ready that is not empty; False at the end of the file."""
        try:
            while not self._ready and not self._eof:
                if self._unzip is None:
                    self._ready += self._file.read(count)
                    self._eof = not self._ready
                else:
                    self._ready += self._unzipped()
        except OSError as error:
            raise self._unreadable(error.strerror or type(error).__name__) from error
        except zlib.error as error:
            raise self._unreadable(str(error)) from error
        return bool(self._ready)

    def _unzipped(self) -> bytes:
        assert self._unzip is not None
        if self._unzip.eof:  # a file may hold several streams, one after the other, and zeros behind them
            self._rest = (self._unzip.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")
            if not self._rest:
                self._eof = self._file.read(1) == b""
                if not self._eof:
                    raise self._unreadable("there is something behind its end")
                return b""
            self._unzip = zlib.decompressobj(_WITH_HEADER)
        fed = self._rest or self._file.read(_CHUNK)
        if not fed:
            raise self._unreadable("it is cut short")
        piece = self._unzip.decompress(fed, _CHUNK)
        self._rest = self._unzip.unconsumed_tail
        return piece

    def _unreadable(self, why: str) -> InputError:
        return InputError(f"'{self.path}' cannot be read ({why})", hint="copying or downloading it again")

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_bounded(path: Path, most: int) -> bytes:
    """All bytes of a file as it lies there, not decompressed; :class:`InputError` as :class:`BoundedFile` raises it."""
    with _open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= most else b""  # one more, to see whether it grew
    if max(size, len(data)) > most:
        raise InputError(f"'{path}' holds {max(size, len(data)):,} bytes", expected=f"at most {most:,}")
    return data


def _open_regular(path: Path) -> BinaryIO:
    # Without blocking: a pipe that nobody writes to would otherwise be waited for.
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise InputError(f"cannot read '{path}' ({error.strerror})", expected="a file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"'{path}' is not a regular file", expected="a file")
    return os.fdopen(descriptor, "rb")
