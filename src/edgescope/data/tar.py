"""The files in a tar archive, one after the other, without following what the archive says about anything else."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import Final

from edgescope.bounded import BoundedFile
from edgescope.errors import InputError

MOST_MEMBERS: Final = 10_000
"""Members of an archive at most: headers alone compress so well that a small file could hold millions."""

_BLOCK: Final = 512
_WITHOUT_CONTENT: Final = frozenset(
    (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
)


def tar_members(file: BoundedFile) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytearray]]]:
    """The header of each member, and a function that reads its content, to be called before the next one or not at all.

    Only the header block of each is understood: nothing is written, links are not followed, and extended headers (long
    names, sparse maps, sizes of their own) are passed over. The standard library's reader gathers and searches those in
    time and memory that an archive can choose. Raises :class:`InputError` for what is no archive or is cut short.
    """
    for _ in range(MOST_MEMBERS):
        block = bytes(file.read(_BLOCK))
        if len(block) == _BLOCK and not block.strip(b"\0"):
            return
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError) as error:
            raise _unreadable(file, str(error)) from error
        # As tarfile has it: what follows a link, a folder or a device is the next header, whatever its size says.
        size = member.size if member.isreg() or member.type not in _WITHOUT_CONTENT else 0
        if size < 0 or member.type == tarfile.GNUTYPE_SPARSE:
            raise _unreadable(file, "a sparse member" if size >= 0 else "a member of negative size")
        content: list[bytearray] = []

        def read(size: int = size, content: list[bytearray] = content) -> bytearray:
            content.append(file.read(size))
            if len(content[0]) < size:
                raise _unreadable(file, "it is cut short")
            return content[0]

        yield member, read
        padding = -size % _BLOCK
        if not file.skip(padding if content else size + padding):
            raise _unreadable(file, "it is cut short")
    raise _unreadable(file, f"more than {MOST_MEMBERS:,} members")


def _unreadable(file: BoundedFile, why: str) -> InputError:
    return InputError(f"archive '{file.path}' cannot be read ({why})", hint="copying or downloading it again")
