"""Whose Jacobians are taken: an objective, its mini-batches, or operators or spectra that the caller has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg import Operator, Spectrum, as_operator
from edgescope.objective import Objective, in_precision, mini_batches

Source = Objective | Operator | Spectrum
"""What has a Jacobian: a spectrum is one whose eigenvalues are known, at no further product."""


class Sources:
    """The members, one a mini-batch; ``drawn`` is False for a single whole thing.

    While they are gone through, ``cost`` (in passes over all data, rounded up) and ``products`` (over mini-batches)
    grow, and what a member spent is added to the objective that it was drawn from. ``precision`` is the last member's
    ("" for a spectrum, which does not tell).
    """

    def __init__(self, members: Iterable[Source], *, drawn: bool, whole: Objective | None = None) -> None:
        self.drawn = drawn
        self.cost = Cost()
        self.products = 0
        self.precision = ""
        self._members = members
        self._whole = whole

    def __iter__(self) -> Iterator[Source]:
        for member in self._members:
            before = _spent(member)
            self.precision = "" if isinstance(member, Spectrum) else str(member.dtype).removeprefix("torch.")
            yield member
            spent = _spent(member) - before
            self.products += spent.products
            if self._whole is not None and isinstance(member, Objective) and member is not self._whole:
                spent = in_passes(spent, member.samples / self._whole.samples)
                self._whole.spent += spent
                member.release()
            self.cost += spent


def _spent(member: Source) -> Cost:
    if isinstance(member, Spectrum):
        return Cost()
    return member.spent if isinstance(member, Objective) else Cost(products=member.products)


def in_passes(cost: Cost, share: float) -> Cost:
    """A cost in passes over this share of the data, as passes over all of them, rounded up."""
    return Cost(*(math.ceil(share * count - 1e-9) for count in (cost.losses, cost.gradients, cost.products)))


def sources(
    thing: Any, *, batch_size: int | None, batches: int | None, seed: int, dtype: torch.dtype | None
) -> Sources:
    """The members of ``thing``: an Objective (its mini-batches, with ``batch_size``), an operator or spectrum, or an
    iterable.

    Objectives are measured in ``dtype`` (None: as they are); operators have their own precision.
    """
    if isinstance(thing, Objective):
        if batch_size is None:
            if batches is not None:
                raise InputError(f"batches={batches} without batch_size", hint="batch_size= as well")
            return Sources([in_precision(thing, dtype or thing.dtype)], drawn=False, whole=thing)
        drawn = mini_batches(thing, batch_size, 8 if batches is None else batches, seed=seed, dtype=dtype)
        return Sources(drawn, drawn=True, whole=thing)
    if batch_size is not None or batches is not None:
        raise InputError(
            "batch_size= and batches= draw from the data of an Objective", hint="one objective a mini-batch"
        )
    if isinstance(thing, Spectrum):
        return Sources([thing], drawn=False)
    if isinstance(thing, Tensor | Operator) or hasattr(thing, "operator") or not isinstance(thing, Iterable):
        return Sources([as_operator(thing)], drawn=False)
    return Sources((_member(member, dtype) for member in thing), drawn=True)


def _member(thing: Any, dtype: torch.dtype | None) -> Source:
    if isinstance(thing, Spectrum):
        return thing
    return in_precision(thing, dtype or thing.dtype) if isinstance(thing, Objective) else as_operator(thing)
