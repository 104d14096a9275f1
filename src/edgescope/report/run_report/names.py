"""Names from records as names of files, rows and panels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

FEWEST = 6
"""Groups of dotted names that still tell where something is."""


def file_name(text: str, taken: set[str]) -> str:
    """``text`` as the name of a figure, another one for each that is asked for: it is added to those ``taken``."""
    stem = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:60] or "measure"
    name = next(name for name in _numbered(stem) if name not in taken)
    taken.add(name)
    return name


def coarser(names: Sequence[str], most: int, modules: bool = False) -> dict[str, str]:
    """A group for each of the dotted names, at most ``most`` of them.

    With ``modules`` the last component, that of the tensor, is always left out; beyond that as many as are needed.
    Where that leaves fewer than ``FEWEST``, or too many, neighbours are joined.
    """
    deepest = max((name.count(".") + 1 for name in names), default=1)
    for depth in range(deepest, 0, -1):
        groups = {name: _cut(name, depth, modules) for name in names}
        count = len(set(groups.values()))
        if count <= most and (depth == deepest or count >= FEWEST):
            return groups
        if count < FEWEST:
            break
    size = -(-len(names) // most)
    joined: dict[str, str] = {}
    for start in range(0, len(names), size):
        some = names[start : start + size]
        joined |= dict.fromkeys(some, some[0] if len(some) == 1 else f"{some[0]} to {some[-1]}")
    return joined


def _cut(name: str, depth: int, modules: bool) -> str:
    parts = name.split(".")
    kept = parts[:-1] if modules and len(parts) > 1 else parts
    return ".".join(kept[:depth])


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1
