"""The digest of the whole file of a closed record, kept inside it, so that every altered bit of it is seen.

The one row of table ``seal`` holds 48 bytes: while the record may be written, ``EDGEOPEN`` and random bytes; once it
is closed, ``EDGESEAL``, where in the file these 48 bytes lie, and the BLAKE2b digest of the file with zeros in their
place. They are put there by overwriting the bytes in the file after SQLite has let go of it, since a commit would
change other bytes too. The next writer takes the seal off, in a transaction of its own, before it writes anything else.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
from pathlib import Path
from typing import BinaryIO, Final, Literal

from edgescope.store.database import snapshot

SIZE: Final = 48
CHUNK: Final = 1 << 20
_OPEN: Final = b"EDGEOPEN"
_SEALED: Final = b"EDGESEAL"

State = Literal["open", "whole", "altered"]


def open_mark() -> bytes:
    """The mark of a record that may be written, unlike all others."""
    return _OPEN + secrets.token_bytes(SIZE - len(_OPEN))


def read_mark(database: sqlite3.Connection) -> bytes:
    """The mark of a record; :class:`sqlite3.DatabaseError` where there is none."""
    rows = database.execute("SELECT mark FROM seal").fetchall()
    mark = rows[0][0] if len(rows) == 1 else None
    if not isinstance(mark, bytes) or len(mark) != SIZE or not mark.startswith((_OPEN, _SEALED)):
        raise sqlite3.DatabaseError("its seal is missing or was altered")
    return mark


def seal_state(database: sqlite3.Connection, path: Path) -> State:
    """Whether a record may have been written since it was closed ("open"), or is "whole", or "altered" since.

    Costs one pass over the file, unless it is open.
    """
    with snapshot(database):
        mark = read_mark(database)
        if mark.startswith(_OPEN):
            return "open"
        # Closing a file drops all locks that this process has on it. Harmless here: what is sealed is not in WAL mode,
        # and the snapshot keeps a writer of this same process from going over to it before the file is closed.
        if database.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return "altered"
        with path.open("rb", buffering=0) as file:
            place = int.from_bytes(mark[8:16])
            size = os.fstat(file.fileno()).st_size
            if place > size - SIZE or _at(file, place) != mark or _digest(file, place) != mark[16:]:
                return "altered"
    return "whole"


def take_off(database: sqlite3.Connection) -> None:
    """Say that the record may be written from now on, in a transaction of its own."""
    if read_mark(database).startswith(_SEALED):
        database.execute("UPDATE seal SET mark = ?", (open_mark(),))


def put_on(path: Path, mark: bytes) -> None:
    """Seal a record that nobody has open and whose mark is ``mark``; it stays open where that is not found."""
    with path.open("r+b", buffering=0) as file:
        place = _find(file, mark)
        if place is None:
            return
        content = _SEALED + place.to_bytes(8) + _digest(file, place)
        file.seek(place)
        file.write(content)
        os.fsync(file.fileno())


def _at(file: BinaryIO, place: int) -> bytes:
    file.seek(place)
    return file.read(SIZE)


def _find(file: BinaryIO, mark: bytes) -> int | None:
    """Where ``mark`` lies, if in one place alone."""
    places, start, before = [], 0, b""
    file.seek(0)
    while chunk := file.read(CHUNK):
        window = before + chunk
        at = window.find(mark)
        while at >= 0:
            places.append(start - len(before) + at)
            at = window.find(mark, at + 1)
        start += len(chunk)
        before = window[-(SIZE - 1) :]
    return places[0] if len(places) == 1 else None


def _digest(file: BinaryIO, place: int) -> bytes:
    """BLAKE2b of the file, with zeros for the mark at ``place``."""
    digest = hashlib.blake2b(digest_size=SIZE - 16)
    file.seek(0)
    left = place
    while left and (chunk := file.read(min(CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    digest.update(bytes(SIZE))
    file.seek(place + SIZE)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.digest()
