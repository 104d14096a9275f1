"""An orthonormal basis of a growing subspace, and the products of an operator with it, in coordinates."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg.capacity import check_memory, rows_needed
from edgescope.linalg.inner_products import inner, principal_axes, reflection_to, spanning_rows
from edgescope.linalg.operator import Operator
from edgescope.linalg.outside_estimate import OutsideEstimate
from edgescope.linalg.ritz import Ritz
from edgescope.linalg.scaling import scales_of
from edgescope.transfers import read, send

_CHUNK = 16384  # columns rotated at a time, which stay in the cache, so that no second (m, P) array is needed
_CHUNK_ELSEWHERE = 2**22  # the same on an accelerator, whose kernels take longer to start
_ROUNDING = 10  # what counts as zero, in units of eps times the norm of the operator
_SHORTENED = 0.5  # a sweep that leaves less of a row's squared norm has also magnified its rounding: one more
_SWEEPS = 4


class Basis:
    """Orthonormal rows V (m, P), and their products in coordinates: V H = S V + E F.

    F (f, P), the rows ``outside``, are orthonormal, too, and orthogonal to V: the directions in which products lead out
    of the span of V. S = ``within`` (m, m) and E = ``coupling`` (m, f) are float64 matrices on the CPU, as is the
    ``projection`` V H V^T (m, m), a symmetric matrix made of the triangle of S that was computed as inner products with
    later rows. So the products themselves take no memory, and residuals, Ritz values and restarts need no further
    ones. A Lanczos iteration has as many rows outside as its block, one that starts from j vectors has j.

    Rows come into the basis from outside: ``append`` puts directions there, ``expand`` multiplies some by the operator,
    and takes them in. Memory for ``capacity + width`` rows in the operator's precision is reserved once and filled from
    the top (on the CPU, rows that were never written take no physical memory). Work for a product: two passes over V,
    to orthogonalise it, where it couples only to the last rows (Lanczos); four where it couples to all.
    """

    def __init__(self, operator: Operator, capacity: int, width: int = 1) -> None:
        self.operator = operator
        rows = rows_needed(operator, capacity, width)
        check_memory(rows, operator)
        self._store = torch.empty((rows, operator.size), dtype=operator.dtype, device=operator.device)
        self._within, self._coupling, self._projection = (_matrix(rows) for _ in range(3))
        self.total = rows
        """The number of rows that are used, those outside included."""
        self.size = 0
        self.outward = 0
        """The number of rows outside."""
        self.estimate: OutsideEstimate | None = None
        """What is known of the operator between the rows outside from earlier ones."""
        self._ritz: Ritz | None = None

    @property
    def rows(self) -> Float[Tensor, "m P"]:
        return self._store[: self.size]

    @property
    def outside(self) -> Float[Tensor, "f P"]:
        return self._store[self.size : self.size + self.outward]

    @property
    def within(self) -> Float[Tensor, "m m"]:
        return self._within[: self.size, : self.size]

    @property
    def coupling(self) -> Float[Tensor, "m f"]:
        return self._coupling[: self.size, : self.outward]

    @property
    def projection(self) -> Float[Tensor, "m m"]:
        return self._projection[: self.size, : self.size]

    @property
    def free(self) -> int:
        """How many rows from outside can be multiplied, or appended outside."""
        return self.total - self.size - self.outward

    def clear(self, operator: Operator, capacity: int, width: int) -> bool:
        """Empty the basis for this operator, capacity and width, and keep its memory; False where that is too little.

        What is computed does not depend on how much more memory there is.
        """
        rows = rows_needed(operator, capacity, width)
        mine = (self._store.shape[1], self._store.dtype, self._store.device)
        if self._store.shape[0] < rows or mine != (operator.size, operator.dtype, operator.device):
            return False
        self.operator, self.total, self.size, self.outward, self.estimate = operator, rows, 0, 0, None
        self._ritz = None
        return True

    def reserve(self, rows: int) -> None:
        """Use so many rows at least; memory is made where there is less."""
        self.total = max(self.total, rows)
        if rows <= self._store.shape[0]:
            return
        check_memory(rows, self.operator)
        used = self.size + self.outward
        store = torch.empty((rows, self._store.shape[1]), dtype=self._store.dtype, device=self._store.device)
        store[:used] = self._store[:used]
        for name in ("_within", "_coupling", "_projection"):
            old, new = getattr(self, name), _matrix(rows)
            new[: old.shape[0], : old.shape[0]] = old
            setattr(self, name, new)
        self._store = store

    def append(self, block: Float[Tensor, "b P"], *, drop: float = 0.0) -> int:
        """Orthonormalise ``block`` against all rows and within itself, and put the result outside; its number of rows.

        Left out are directions of the normalised new parts whose singular value is at most ``drop``, or not resolved by
        the precision; and, where there is no memory for all, those with the smallest singular values. Raises
        :class:`InputError` for entries that are not finite.
        """
        return self._enter(block, drop).shape[1]

    def append_known(
        self, block: Float[Tensor, "b P"], values: Float[Tensor, " b"], elsewhere: float, drop: float
    ) -> Float[Tensor, "b f"]:
        """``append`` to an empty basis, of nearly orthonormal rows with estimated values of the operator; elsewhere it
        is taken to be ``elsewhere``. Returns the coordinates of the rows among those outside."""
        coupling = self._enter(block, drop, scaled=True)
        coordinates = coupling / torch.linalg.vector_norm(coupling, dim=1, keepdim=True).clamp(min=1e-300)
        self.estimate = OutsideEstimate.from_pairs(values, coordinates, elsewhere)
        return coordinates

    def expand(self, directions: Float[Tensor, "b f"] | None = None) -> None:
        """Multiply directions outside by the operator, as one block, and take them into the basis.

        ``directions`` are orthonormal, in coordinates of the rows outside; by default all of these. The new parts of
        the products take their place outside, unless they are no more than rounding.
        """
        turned: list[Tensor] = []
        if directions is not None and directions.shape[0] < self.outward:
            turned = [self._turn_outside(directions)]
        count = self.outward if directions is None else directions.shape[0]
        old, new, top = self.size, self.size + count, self.size + self.outward
        left = self.outward - count
        slot = self._store[top : top + count]
        products, finite = self.operator.unchecked(self._store[old:new].T)
        slot.copy_(products.T)
        del products  # as large as the block
        scales = scales_of(slot, dim=1)
        slot.div_(scales)
        # By symmetry a product couples to the rows whose own products lead to the row that was multiplied.
        known = self._coupling[:old, :count].abs().sum(1).nonzero()
        first = int(known[0]) if known.numel() else old
        sweeps = self._unread(1 if 0 < first < top else 2)
        beside = (scales, *turned) if finite is None else (scales, *turned, finite)
        coefficients, gram, (scales, *rest) = self._project_out(slot, top, first, sweeps, beside)
        if finite is not None:
            self.operator.refuse_unless(bool(rest[-1]), self._store[old:new])
        coefficients *= scales
        for subtracted in rest[: len(turned)]:
            self._within[:old, :old] += self._coupling[:old, :count] @ subtracted
        self._within[:old, old:new] = self._coupling[:old, :count]
        self._coupling[:old, :left] = self._coupling[:old, count : self.outward].clone()
        self._take_in(old, new, left, coefficients)
        floor = self.rounding(self.ritz().magnitude)
        coupling, correction = self._normalise(slot, gram, top, floor=floor / scales[:, 0])
        self._within[old:new, :new] += scales * correction[:, :new]
        self._coupling[old:new, :left] += scales * correction[:, new:]
        added = slice(left, left + coupling.shape[1])
        self._coupling[:old, added] = 0
        self._coupling[old:new, added] = scales * coupling
        self.outward = added.stop
        if self.estimate is not None:
            self.estimate = self.estimate.after(count, coupling.shape[1])

    def ritz(self) -> Ritz:
        """Eigenpairs of the operator projected on the basis; computed once for the rows it has."""
        if self._ritz is None:
            values, coordinates = torch.linalg.eigh(self.projection)
            self._ritz = Ritz(values.flip(0), coordinates.flip(1))
        return self._ritz

    def rounding(self, magnitude: float) -> float:
        """What counts as zero: 10 eps times the operator's norm, or the smallest normal number where it is larger."""
        numbers = torch.finfo(self.operator.dtype)
        return _ROUNDING * numbers.eps * max(magnitude, numbers.tiny)

    def combine(self, coordinates: Float[Tensor, "m j"]) -> Float[Tensor, "j P"]:
        """The vectors with these coordinates, as rows; those along rows outside may follow."""
        return send(coordinates.T, self._store) @ self._store[: coordinates.shape[0]]

    def residuals(
        self, values: Float[Tensor, " j"], coordinates: Float[Tensor, "m j"]
    ) -> tuple[Float[Tensor, "j m"], Float[Tensor, "j f"]]:
        """H v - value v for the vectors v with these coordinates: its coordinates within the basis, and outside.

        Those within measure rounding and asymmetry of the products; in exact arithmetic they are zero for Ritz pairs.
        """
        return coordinates.T @ self.within - values[:, None] * coordinates.T, coordinates.T @ self.coupling

    def compress(
        self,
        values: Float[Tensor, " j"],
        coordinates: Float[Tensor, "m j"],
        directions: Float[Tensor, "b f"] | None = None,
    ) -> Float[Tensor, "b g"] | None:
        """Thick restart: keep only these Ritz vectors, in place.

        Of the rows outside stay those combinations that the products with these vectors need, and ``directions``.
        Returns the coordinates of ``directions`` among them.
        """
        kept, size, before = values.shape[0], self.size, self.outward
        within, coupling = coordinates.T @ self.within @ coordinates, coordinates.T @ self.coupling
        needed = coupling if directions is None else torch.cat([directions, coupling])
        turn = torch.linalg.qr(needed.T).Q if needed.shape[0] < before else None
        outward = before if turn is None else turn.shape[1]
        rotation = send(coordinates.T, self._store)
        outer = None if turn is None else send(turn.T, self._store)
        for columns in self._chunks():
            part = self._store[: size + before, columns]
            outside = part[size:].clone() if outer is None else outer @ part[size:]
            part[:kept] = rotation @ part[:size]
            part[kept : kept + outward] = outside
        self.size, self.outward = kept, outward
        self._within[:kept, :kept] = within
        self._coupling[:kept, :outward] = coupling if turn is None else coupling @ turn
        self._projection[:kept, :kept] = torch.diag(values)
        self._ritz = None
        if self.estimate is not None and turn is not None:
            self.estimate = self.estimate.turned(turn)
        return directions if directions is None or turn is None else directions @ turn

    def _enter(self, block: Float[Tensor, "b P"], drop: float, scaled: bool = False) -> Float[Tensor, "b j"]:
        """Put the new directions of these rows outside; the coordinates along them of the rows, scaled each.

        ``scaled``: the rows are about of unit norm, so that their squares neither overflow nor vanish.
        """
        top = self.size + self.outward
        slot = self._store[top : min(top + block.shape[0], self.total)]
        # A block may have more rows than the space has dimensions, such as a long history of a small operator.
        slot = slot if slot.shape[0] == block.shape[0] else torch.empty_like(block)
        if scaled and not top and block.shape[0] > 1:
            slot = block  # which is not written to: what is orthonormal is written to its place at once
        elif scaled:
            slot.copy_(block)
        else:
            torch.div(block, scales_of(block, dim=1), out=slot)
        _, gram, _ = self._project_out(slot, top, sweeps=self._unread(2))
        if not bool(gram.isfinite().all()):
            raise InputError("start vectors with entries that are NaN or infinite", expected="finite entries")
        coupling, _ = self._normalise(slot, gram, top, floor=self.rounding(1.0), drop=drop)
        self._coupling[: self.size, self.outward : self.outward + coupling.shape[1]] = 0
        self.outward += coupling.shape[1]
        if self.estimate is not None:
            self.estimate = self.estimate.after(0, coupling.shape[1])
        return coupling

    def _take_in(self, old: int, new: int, left: int, coefficients: Float[Tensor, "b top"]) -> None:
        """Rows old to new, and what their products have within the basis and along the ``left`` rows outside."""
        self.size, self.outward = new, left
        self._within[old:new, :new] = coefficients[:, :new]
        self._coupling[old:new, :left] = coefficients[:, new:]
        columns = coefficients[:, :new].T
        self._projection[:new, old:new] = columns
        self._projection[old:new, :old] = columns[:old].T
        self._projection[old:new, old:new] = (columns[old:] + columns[old:].T) / 2
        self._ritz = None

    def _chunks(self) -> list[slice]:
        """The columns, as many at a time as are rotated together."""
        size = _CHUNK if self._store.is_cpu else _CHUNK_ELSEWHERE
        return [slice(start, start + size) for start in range(0, self._store.shape[1], size)]

    def _unread(self, sweeps: int) -> int:
        """After how many sweeps the host looks at their result: after each where looking is free."""
        return 1 if self._store.is_cpu else sweeps

    def _project_out(
        self,
        block: Float[Tensor, "b P"],
        top: int,
        first: int = 0,
        sweeps: int = 1,
        beside: tuple[Tensor, ...] = (),
    ) -> tuple[Float[Tensor, "b top"], Float[Tensor, "b b"], list[Tensor]]:
        """Orthogonalise the rows of ``block`` against the first ``top`` rows, in place; what was subtracted, the inner
        products of what is left, and the tensors ``beside`` these, all as float64 on the CPU.

        Rows from ``first`` on are subtracted in a sweep of their own, since the others were expected to be orthogonal
        already. A sweep against all rows follows, and further ones while these shorten a row noticeably ("twice is
        enough": Parlett 1980, section 6.9). The host looks after so many ``sweeps``, and after each further one; those
        that it has not looked at subtract nothing where they are not needed, so that the result is always the same.
        """
        known = self._store[:top]
        coefficients = torch.zeros((block.shape[0], top), dtype=torch.float64, device=block.device)
        if 0 < first < top:
            found = inner(block, known[first:])
            block.addmm_(found.to(block), known[first:], alpha=-1)
            coefficients[:, first:] = found
        rest: list[Tensor] = []
        gram = lengths = coefficients  # until the first sweep
        enough: Tensor | None = None  # whether a sweep that the host has not looked at was enough
        for sweep in range(1, _SWEEPS + 1):
            found, before = self._inner_with(block, top)
            found = found if enough is None else torch.where(enough, 0.0, found)
            if top:
                block.addmm_(found.to(block), known, alpha=-1)
            coefficients += found
            last = gram, lengths
            gram, lengths = before - found @ found.T, before.diagonal()
            if enough is not None:
                gram, lengths = (torch.where(enough, old, new) for old, new in zip(last, (gram, lengths), strict=True))
            if top and sweep < sweeps:
                enough = (gram.diagonal() >= _SHORTENED * lengths).all()
                continue
            sums, gram, lengths, *others = read(coefficients, gram, lengths, *([] if rest else beside))
            rest, enough = rest or others, None
            if not top or bool((gram.diagonal() >= _SHORTENED * lengths).all()):
                break
        return sums, gram, rest

    def _inner_with(self, block: Float[Tensor, "b P"], top: int) -> tuple[Float[Tensor, "b top"], Float[Tensor, "b b"]]:
        """Inner products with the first ``top`` rows, and among those of ``block``, which mostly are the next ones."""
        if block.data_ptr() != self._store[top:].data_ptr():
            return inner(block, self._store[:top]), inner(block, block)
        found = inner(block, self._store[: top + block.shape[0]])
        return found[:, :top], found[:, top:]

    def _normalise(
        self,
        block: Float[Tensor, "b P"],
        gram: Float[Tensor, "b b"],
        top: int,
        *,
        floor: Float[Tensor, " b"] | float = 0.0,
        drop: float = 0.0,
    ) -> tuple[Float[Tensor, "b j"], Float[Tensor, "b top"]]:
        """Put orthonormal rows that span those of ``block``, with inner products ``gram``, behind the first ``top``.

        Returns the coupling C (b, j) and the correction D (b, top): the block is C times the new rows plus D times the
        first ``top`` rows. Left out are rows with a norm of at most ``floor``, and directions as in ``append``.
        """
        epsilon = torch.finfo(block.dtype).eps
        limit = min(self.total - top, self.operator.size - top)
        if block.shape[0] == 1:
            length = math.sqrt(max(float(gram), 0.0))
            long_enough = limit > 0 and length > float(floor)
            if long_enough:
                block.mul_(1 / length)
            return gram.new_full((1, int(long_enough)), length), gram.new_zeros((1, top))
        coupling = torch.eye(block.shape[0], dtype=torch.float64, device="cpu")
        correction = torch.zeros((block.shape[0], top), dtype=torch.float64, device="cpu")
        for again in (False, True):
            products, lengths = gram, gram.diagonal().clamp(min=0).sqrt()
            long = lengths > (0.5 if again else floor)
            inverse = torch.where(long, 1 / lengths, 0.0)
            squares, turn = principal_axes(inverse[:, None] * gram * inverse)
            kept = squares > (0.25 if again else max(drop**2, 16 * epsilon))
            dependent = not again and not drop and int(kept.sum()) < int(long.sum())
            if dependent:  # the rounding of a short row must not get into the direction that stands for a long one
                inverse = inverse * spanning_rows(products * long, int(kept.sum()), 16 * epsilon)
                squares, turn = principal_axes(inverse[:, None] * gram * inverse)
                kept = squares > 16 * epsilon
            kept[: max(block.shape[0] - limit, 0)] = False  # ascending: the weakest come first
            roots, turn = squares[kept].sqrt(), turn[:, kept]
            mixing = turn / roots * inverse[:, None]
            fresh, rotation = self._store[top : top + mixing.shape[1]], send(mixing.T, block)
            for columns in self._chunks():
                fresh[:, columns] = rotation @ block[:, columns]
            block = fresh
            coupling = coupling @ (long[:, None] * products @ mixing if dependent else lengths[:, None] * turn * roots)
            if again or bool((squares[kept] > _SHORTENED).all()):
                break
            found, gram, _ = self._project_out(block, top)  # what was nearly dependent has had its rounding magnified
            correction += coupling @ found
        return coupling, correction

    def _turn_outside(self, directions: Float[Tensor, "b f"]) -> Float[Tensor, "b m"]:
        """Reflect the rows outside so that the span of these directions comes first, and orthogonalise it once more.

        What that subtracts, in float64 and yet to be read by the host, adds to the products within the basis.
        """
        count, outside = directions.shape[0], self.outside
        across, along = reflection_to(directions)
        taken, added = send(across.T, self._store), send(along.T, self._store)
        for columns in self._chunks():
            part = outside[:, columns]
            part.addmm_(added.T, taken @ part, alpha=-1)
        turn = torch.eye(self.outward, dtype=torch.float64, device="cpu") - across @ along.T
        self._coupling[: self.size, : self.outward] = self.coupling @ turn
        if self.estimate is not None:
            self.estimate = self.estimate.turned(turn)
        found = inner(outside[:count], self.rows)
        outside[:count].addmm_(found.to(outside), self.rows, alpha=-1)
        return found


def _matrix(size: int) -> Float[Tensor, "m m"]:
    return torch.zeros((size, size), dtype=torch.float64, device="cpu")
