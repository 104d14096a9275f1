"""Blocks of the parameters by name: tensors, the layers that hold them, or those whose names match globs."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from edgescope.errors import InputError
from edgescope.near_names import suggestion
from edgescope.objective.layout import Layout
from edgescope.options import refusal

REST: Final = "rest"
"""The block of the parameters that no glob matches."""

Globs = tuple[str, ...]
"""Blocks as globs over the names of parameters, such as ``("layers.0.*", "*.bias")``."""

By = Literal["none", "tensors", "layers"]
"""Which blocks a measure has parts for: none, each tensor, or each module with parameters of its own."""


def blocks_of(layout: Layout, by: By) -> dict[str, list[slice]]:
    """The places in the flat vector of each block, by its name; a parameter of the model itself is its own layer."""
    found: dict[str, list[slice]] = {}
    for slot in layout if by != "none" else ():
        name = slot.name.rpartition(".")[0] or slot.name if by == "layers" else slot.name
        found.setdefault(name, []).append(slot.slice)
    return found


def check_globs(owner: str, name: str, value: Any, *, hint: str | None = None) -> Globs:
    """``value`` as globs, each once."""
    expected = 'globs over the names of parameters, each once, such as ("layers.0.*", "*.bias")'
    if not isinstance(value, tuple | list) or not all(isinstance(each, str) for each in value):
        raise refusal(owner, name, value, expected, hint)
    globs = tuple(each.strip() for each in value)
    if len(set(globs)) < len(globs) or REST in globs or not all(globs) or "\0" in "".join(globs):
        raise refusal(owner, name, value, f"{expected}; '{REST}' is the block of all others", hint)
    return globs


def blocks_named(layout: Layout, globs: Globs, owner: str) -> dict[str, list[slice]]:
    """The places in the flat vector of each glob's block: a parameter belongs to the first glob that matches its name.

    Those that none matches are the block "rest". Without globs the blocks are the layers. Parameters without entries
    belong to none. Raises :class:`InputError` for a glob that no parameter is left for.
    """
    slots = [slot for slot in layout if slot.shape.numel()]
    if not globs:
        return {name: own for name, own in blocks_of(layout, "layers").items() if any(p.stop > p.start for p in own)}
    found: dict[str, list[slice]] = {name: [] for name in (*globs, REST)}
    for slot in slots:
        found[next((glob for glob in globs if fnmatchcase(slot.name, glob)), REST)].append(slot.slice)
    for glob in globs:
        if not found[glob]:
            names = [slot.name for slot in slots]
            raise InputError(
                f"{owner} with the block '{glob}', which no parameter is left for",
                expected=f"a glob over {', '.join(names[:4])}{' and others' if len(names) > 4 else ''}",
                hint=suggestion(glob, names),
            )
    return {name: own for name, own in found.items() if own}
