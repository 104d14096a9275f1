"""An orthonormal basis of a growing subspace, its image under the operator, and the projection of the operator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg.operator import Operator
from edgescope.linalg.scaling import scales_of
from edgescope.memory import require

_CHUNK = 16384  # columns rotated at a time in a restart, so that no second (m, P) array is needed
_SEGMENT = 2048  # terms summed in the operator's precision; the sums of the segments are added in float64


@dataclass(frozen=True)
class Ritz:
    """Eigenpairs of the projected operator, in descending order: values (m,), coordinates in the basis (m, m)."""

    values: Float[Tensor, " m"]
    coordinates: Float[Tensor, "m m"]

    @property
    def magnitude(self) -> float:
        """The largest absolute value: an estimate of the operator's norm, from below."""
        return float(self.values.abs().max()) if self.values.numel() else 0.0


class Basis:
    """Orthonormal rows V (m, P), their images W = V H, and the projection T = V H V^T (m, m), in float64 on the CPU.

    Memory for ``capacity`` rows is reserved once and filled from the top (on the CPU, rows that were never written take
    no physical memory). V and W have the operator's precision. Work for a new row, all in matrix products: two passes
    over V to orthogonalise it twice by classical block Gram-Schmidt (four passes unless the first coefficients are
    known), and one for its column of T.

    Rows are added in two steps: ``propose`` orthonormalises them, without a product of the operator; ``commit`` then
    multiplies them. ``keep_images=False`` halves the memory where neither residuals nor restarts are needed.
    """

    def __init__(self, operator: Operator, capacity: int, width: int = 1, *, keep_images: bool = True) -> None:
        self.operator = operator
        self.capacity = min(capacity, operator.size)
        images = self.capacity if keep_images else 0
        check_memory(self.capacity + width + images, operator)
        like = {"dtype": operator.dtype, "device": operator.device}
        self._rows = torch.empty((self.capacity + width, operator.size), **like)  # type: ignore[call-overload]
        self._images = torch.empty((images, operator.size), **like)  # type: ignore[call-overload]
        self._projection = torch.zeros((self.capacity, self.capacity), dtype=torch.float64, device="cpu")
        self.size = 0
        self.proposed = 0

    @property
    def rows(self) -> Float[Tensor, "m P"]:
        return self._rows[: self.size]

    @property
    def images(self) -> Float[Tensor, "m P"]:
        return self._images[: self.size]

    @property
    def projection(self) -> Float[Tensor, "m m"]:
        return self._projection[: self.size, : self.size]

    @property
    def free_rows(self) -> int:
        """How many more rows can be added."""
        return self.capacity - self.size

    def clear(self, operator: Operator) -> None:
        """Empty the basis, keeping its memory, for an operator of the same size, precision and device."""
        self.operator, self.size, self.proposed = operator, 0, 0

    def fits(self, operator: Operator, capacity: int, width: int) -> bool:
        """Whether the memory suffices for this operator, capacity and width, so that ``clear`` may be called."""
        mine = (self._rows.shape[1], self._rows.dtype, self._rows.device)
        enough = self.capacity >= min(capacity, operator.size) and self._rows.shape[0] >= self.capacity + width
        return enough and mine == (operator.size, operator.dtype, operator.device)

    def propose(
        self,
        block: Float[Tensor, "b P"],
        *,
        known: Float[Tensor, "b m"] | None = None,
        floor: float = 0.0,
        drop: float = 0.0,
    ) -> Float[Tensor, "b j"]:
        """Orthonormalise ``block`` against the basis and within itself; the j <= b new rows are added by ``commit``.

        The new part of a row is its component orthogonal to the basis. ``known`` are the coefficients block V^T, where
        the caller has them. Left out are rows whose new part has a norm of at most ``floor``; directions of the
        normalised new parts whose singular value is at most ``drop`` (or not resolved by the precision); and, where the
        free rows do not suffice, the directions with the smallest singular values. Returns the coupling C (b, j), with
        which the new parts are C times the new rows.
        """
        waiting, scales = self._rows[self.size :], scales_of(block, dim=1)
        # A block may have more rows than the space has dimensions, such as a long history of a small operator.
        slot = waiting[: block.shape[0]] if block.shape[0] <= waiting.shape[0] else torch.empty_like(block)
        torch.div(block, scales, out=slot)
        scales = scales.double().cpu()
        coupling = torch.diag(scales[:, 0])
        epsilon = torch.finfo(slot.dtype).eps
        for again in (False, True):
            if self.size:
                coefficients = inner(slot, self.rows) if again or known is None else known / scales
                slot.addmm_(coefficients.to(slot), self.rows, alpha=-1)
            gram = inner(slot, slot)
            lengths = gram.diagonal().sqrt()
            inverse = torch.where(lengths > (0.5 if again else floor / scales[:, 0]), 1 / lengths, 0.0)
            gram = inverse[:, None] * gram * inverse
            squares, turn = torch.linalg.eigh((gram + gram.T) / 2)
            kept = squares > (0.25 if again else max(drop**2, 16 * epsilon))
            kept[: -waiting.shape[0]] = False  # ascending: the weakest come first
            # where the rank is smaller than the number of rows, only the first rows of the slot are rewritten
            mixing = turn[:, kept] / squares[kept].sqrt() * inverse[:, None]
            fresh = mixing.T.to(slot) @ slot
            slot = waiting[: fresh.shape[0]]
            slot.copy_(fresh)
            coupling = coupling @ (lengths[:, None] * turn[:, kept] * squares[kept].sqrt())
        self.proposed = slot.shape[0]
        return coupling

    @property
    def pending(self) -> Float[Tensor, "j P"]:
        """The rows that were proposed and not yet committed."""
        return self._rows[self.size : self.size + self.proposed]

    def commit(self, images: Float[Tensor, "j P"] | None = None) -> None:
        """Add the proposed rows to the basis, after multiplying them as one block unless ``images`` are given."""
        old, new = self.size, self.size + self.proposed
        if new == old:
            return
        if images is None:
            images = (self.operator @ self.pending.T).T
        if self._images.shape[0]:
            self._images[old:new] = images
        scales = scales_of(images, dim=1)
        columns = (inner(images / scales, self._rows[:new]) * scales.double().cpu()).T
        self._projection[:new, old:new] = columns
        self._projection[old:new, :old] = columns[:old].T
        self._projection[old:new, old:new] = (columns[old:] + columns[old:].T) / 2
        self.size, self.proposed = new, 0

    def ritz(self) -> Ritz:
        """Eigenpairs of the operator projected on the basis."""
        values, coordinates = torch.linalg.eigh(self.projection)
        return Ritz(values.flip(0), coordinates.flip(1))

    def combine(self, coordinates: Float[Tensor, "m j"]) -> Float[Tensor, "j P"]:
        """The vectors with these coordinates, as rows."""
        return coordinates.T.to(self._rows) @ self.rows

    def residuals(self, values: Float[Tensor, " j"], coordinates: Float[Tensor, "m j"]) -> Float[Tensor, "j P"]:
        """H v - value v, computed explicitly, for the vectors v with these coordinates; as rows."""
        result = coordinates.T.to(self._images) @ self.images
        return result.addmm_((coordinates * values).T.to(self._rows), self.rows, alpha=-1)

    def compress(self, values: Float[Tensor, " j"], coordinates: Float[Tensor, "m j"]) -> None:
        """Thick restart: keep only these Ritz vectors, in place; rows that were proposed stay proposed."""
        turn, kept = coordinates.T.to(self._rows), values.shape[0]
        for store in (self.rows, self.images):
            for start in range(0, store.shape[1], _CHUNK):
                part = store[:, start : start + _CHUNK]
                part[:kept] = turn @ part
        self._rows[kept : kept + self.proposed] = self.pending.clone()
        self.size = kept
        self._projection[:kept, :kept] = torch.diag(values)


def check_memory(vectors: int, operator: Operator) -> None:
    """Raise :class:`MemoryBudgetError` where that many vectors of the operator's size and precision do not fit."""
    require(
        vectors * operator.size * operator.dtype.itemsize,
        f"a set of {vectors} vectors of length {operator.size}",
        device=operator.device,
        hint="a smaller basis, fewer probes or steps, or float32",
    )


def inner(few: Float[Tensor, "j P"], many: Float[Tensor, "m P"]) -> Float[Tensor, "j m"]:
    """Inner products of rows, in float64 on the CPU.

    Sums over segments are added in float64: an ordinary float32 product over 10^6 terms had an error of 5e-4. The
    squares of the entries must neither overflow nor underflow in the rows' precision: see
    :mod:`~edgescope.linalg.scaling`.
    """
    length = few.shape[1]
    segment = min(_SEGMENT, length)
    whole = length - length % segment
    left = few[:, :whole].unflatten(1, (-1, segment)).transpose(0, 1)
    right = many[:, :whole].unflatten(1, (-1, segment)).permute(1, 2, 0)
    total = torch.bmm(left, right).sum(0, dtype=torch.float64)
    return (total + (few[:, whole:] @ many[:, whole:].T)).cpu()
