"""The sources of Jacobians: an objective, its mini-batches, or operators and spectra given by the caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from edgescope.cost import Cost, in_passes
from edgescope.errors import InputError
from edgescope.linalg import HasOperator, Operator, OperatorLike, Spectrum, as_operator
from edgescope.objective import Objective, in_precision, mini_batches

Source = Objective | Operator | Spectrum
"""What has a Jacobian: a spectrum is one whose eigenvalues are known, at no further product."""

SourceLike: TypeAlias = OperatorLike | Spectrum
"""What a source can be made from; a symmetric matrix becomes an operator."""


class Sources:
    """The sources of one measurement: one for each mini-batch, or (``drawn`` is False) a single one of all data.

    Iterating adds the cost of each to ``cost`` (in passes over all data, rounded up) and ``products`` (over
    mini-batches), and to the objective that it was drawn from. ``precision`` and ``mode`` are those of the last one
    (the precision of a spectrum is not known: "").
    """

    def __init__(self, members: Iterable[Source], *, drawn: bool, whole: Objective | None = None) -> None:
        self.drawn = drawn
        self.cost = Cost()
        self.products = 0
        self.precision = ""
        self.mode: str | None = None
        self._members = members
        self._whole = whole

    def __iter__(self) -> Iterator[Source]:
        for member in self._members:
            before = _spent(member)
            self.precision = "" if isinstance(member, Spectrum) else str(member.dtype).removeprefix("torch.")
            self.mode = member.mode
            yield member
            spent = _spent(member) - before
            self.products += spent.products
            if self._whole is not None and isinstance(member, Objective) and member is not self._whole:
                spent = in_passes(spent, member.samples / self._whole.samples)
                self._whole.meter.add(spent)
                member.release()
            self.cost += spent


def _spent(member: Source) -> Cost:
    if isinstance(member, Spectrum):
        return Cost()
    return member.spent if isinstance(member, Objective) else Cost(products=member.products)


def sources(
    source: SourceLike | Iterable[Any],  # of sources; anything else is refused where it is reached
    *,
    batch_size: int | None,
    batches: int | None,
    seed: int,
    dtype: torch.dtype | None,
) -> Sources:
    """The members of ``source``: an Objective (its mini-batches, with ``batch_size``), an operator or spectrum, or an
    iterable.

    Objectives are measured in ``dtype`` (None: as they are); operators have their own precision.
    """
    if isinstance(source, Objective):
        if batch_size is None:
            if batches is not None:
                raise InputError(f"batches={batches} without batch_size", hint="batch_size= as well")
            return Sources([in_precision(source, dtype or source.dtype)], drawn=False, whole=source)
        drawn = mini_batches(source, batch_size, 8 if batches is None else batches, seed=seed, dtype=dtype)
        return Sources(drawn, drawn=True, whole=source)
    if batch_size is not None or batches is not None:
        raise InputError(
            "batch_size= and batches= draw from the data of an Objective", hint="one objective a mini-batch"
        )
    if isinstance(source, Spectrum):
        return Sources([source], drawn=False)
    if isinstance(source, Operator | HasOperator | Tensor | np.ndarray):
        return Sources([as_operator(source)], drawn=False)
    if isinstance(source, Iterable):
        return Sources((_member(member, dtype) for member in source), drawn=True)
    return Sources([as_operator(source)], drawn=False)  # which says what is wrong with it


def _member(source: SourceLike, dtype: torch.dtype | None) -> Source:
    if isinstance(source, Spectrum):
        return source
    return in_precision(source, dtype or source.dtype) if isinstance(source, Objective) else as_operator(source)
