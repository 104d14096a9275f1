"""Checks that measures can be taken of a problem of this size, before its first step and not at every reading."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from edgescope.memory import require
from edgescope.options import refusal


@dataclass(frozen=True)
class ProblemSize:
    """Numbers of parameters and of training samples (None where not known), and bytes of a parameter."""

    parameters: int
    samples: int | None = None
    itemsize: int = 4

    def fits_parameters(self, owner: str, name: str, count: int) -> None:
        """Raise :class:`InputError` where an option is larger than the number of parameters."""
        if count > self.parameters:
            raise refusal(owner, name, count, f"at most {self.parameters:,}, the number of parameters")

    def fits_samples(self, owner: str, name: str, count: int | None) -> None:
        """Raise :class:`InputError` where an option, if it is given, is larger than the number of samples."""
        if count is not None and self.samples is not None and count > self.samples:
            raise refusal(owner, name, count, f"at most {self.samples:,}, the number of samples")

    def require_vectors(self, owner: str, count: int, hint: str) -> None:
        """Raise :class:`MemoryBudgetError` where so many vectors of the parameters' length do not fit in memory."""
        require(count * self.parameters * self.itemsize, owner, hint=hint)


@runtime_checkable
class DependsOnSize(Protocol):
    """A measure whose options may be too large for a problem."""

    def check_problem(self, size: ProblemSize) -> None:
        """Raise InputError or MemoryBudgetError for options that cannot be used on a problem of this size."""


def check_measures(measures: Iterable[Any], size: ProblemSize) -> None:
    """Raise for the first of the measures that cannot be taken of a problem of this size."""
    for measure in measures:
        if isinstance(measure, DependsOnSize):
            measure.check_problem(size)
