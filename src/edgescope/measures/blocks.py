"""Blocks of the parameters by name: tensors, or the layers that hold them."""

from __future__ import annotations

from typing import Literal

from edgescope.objective.layout import Layout

By = Literal["none", "tensors", "layers"]
"""Which blocks a measure has parts for: none, each tensor, or each module with parameters of its own."""


def blocks_of(layout: Layout, by: By) -> dict[str, list[slice]]:
    """The places in the flat vector of each block, by its name; a parameter of the model itself is its own layer."""
    found: dict[str, list[slice]] = {}
    for slot in layout if by != "none" else ():
        name = slot.name.rpartition(".")[0] or slot.name if by == "layers" else slot.name
        found.setdefault(name, []).append(slot.slice)
    return found
