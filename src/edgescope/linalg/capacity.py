"""How many vectors a search for eigenpairs holds: as many as pay, and fewer where memory is short."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.linalg.operator import Operator
from edgescope.memory import require

# With these a restarted search took at most 3% more products than one that keeps everything: on spectra of networks at
# the edge of stability, in crowds within 1%, and on synthetic ones, for 1 to 6 pairs and tolerances of 1e-3 and 1e-5.
_FOR_ONE = 12
_FOR_SEVERAL = 20
_A_PAIR = 2  # more for each pair,
_BESIDE = 8  # beyond so many
_A_VECTOR = 4  # more for each further vector of a block
_SEEDED = 12  # beyond the seeds
_FEW = 4  # vectors beyond the wanted ones with which a search took at most half more products,
_LEAST = 1  # and with which it took up to four times as many, in crowds and for small residuals
_TRANSIENT = 1  # copies of the vectors that are multiplied at once
_SMALL_SPACE = 64  # dimensions up to which memory for all of the space, twice, is nothing


@dataclass(frozen=True)
class Capacity:
    """The vectors that a basis holds, and as many as it would with enough memory."""

    rows: int
    best: int

    @property
    def note(self) -> str | None:
        """Why the search takes more products than it would otherwise; None where it does not."""
        if self.rows >= self.best:
            return None
        return f"a basis of {self.rows} vectors, since {self.best} do not fit in memory: this may take more products"


def best_capacity(wanted: int, block: int = 1, seeds: int = 0) -> int:
    """How many vectors pay in a search for so many pairs, from so many seeds."""
    cold = max(_FOR_ONE if wanted == 1 else _FOR_SEVERAL, _A_PAIR * wanted + _BESIDE) + _A_VECTOR * (block - 1)
    return max(cold, seeds + _SEEDED) if seeds else cold


def fitting_capacity(operator: Operator, best: int, wanted: int, block: int, width: int) -> Capacity:
    """The capacity of a basis that fits beside ``width`` rows outside, the resulting vectors and a block's products.

    At most ``best``. Products are made to leave memory for ``_FEW`` vectors and a block beyond the wanted ones, where
    they can, and fewer are held where they cannot. Raises :class:`MemoryBudgetError` where not even ``_LEAST`` fit.
    """
    best = min(best, operator.size)
    beside = wanted + _TRANSIENT * block
    vector = operator.size * operator.dtype.itemsize
    few, least = (min(wanted + block + rest, best) for rest in (_FEW, _LEAST))
    vectors = operator.room((rows_needed(operator, few, width) + beside) * vector) // vector
    if rows_needed(operator, best, width) + beside <= vectors:
        return Capacity(best, best)
    rows = min(vectors - beside - width, best)
    if rows < least:
        check_memory(rows_needed(operator, least, width) + beside, operator)
        rows = least
    return Capacity(rows, best)


def rows_needed(operator: Operator, capacity: int, width: int) -> int:
    """The rows of a basis for ``capacity`` vectors and ``width`` outside: no more than twice the dimensions."""
    if operator.size <= _SMALL_SPACE:
        return 2 * operator.size
    return min(capacity + width, 2 * operator.size)


def check_memory(vectors: int, operator: Operator) -> None:
    """Raise :class:`MemoryBudgetError` where that many vectors of the operator's size and precision do not fit."""
    require(
        vectors * operator.size * operator.dtype.itemsize,
        f"a set of {vectors} vectors of length {operator.size}",
        device=operator.device,
        limit=operator.room(),
        hint="a smaller basis, fewer probes or steps, or float32",
    )
