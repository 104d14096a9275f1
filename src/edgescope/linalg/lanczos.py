"""Several Lanczos runs in parallel, each with full reorthogonalisation; one block of products for each step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg.nodes import Nodes
from edgescope.linalg.operator import Operator

_CANCELLED = 1e4
"""A new vector is orthogonalised once more where its norm is at most this many times the rounding error."""


class Lanczos:
    """R independent Lanczos runs on vectors of length P, after ``depth`` steps; memory is for ``capacity`` steps.

    A run whose Krylov space is exhausted stops, and costs
    no further products. The tridiagonal matrices are float64. Every new vector is orthogonalised twice against all
    earlier ones, which prevents spurious copies of eigenvalues.
    """

    def __init__(
        self,
        operator: Operator,
        starts: Float[Tensor, "P R"],
        capacity: int,
    ) -> None:
        size, runs = starts.shape
        self._operator = operator
        self._rows = torch.empty((runs, capacity + 1, size), dtype=starts.dtype, device=starts.device)
        self._rows[:, 0] = (starts / starts.norm(dim=0)).T
        self._diagonal = torch.zeros((runs, capacity), dtype=torch.float64, device=starts.device)
        self._off_diagonal = torch.zeros_like(self._diagonal)
        self._skew = torch.zeros_like(self._diagonal[:, 0])  # sums of squares
        self._alive = torch.ones(runs, dtype=torch.bool, device=starts.device)
        self._lengths = [0] * runs
        self._running = [True] * runs  # the host's copy of what is alive
        self._read: tuple[Tensor, Tensor, Tensor] | None = None
        self.depth = 0

    @property
    def runs(self) -> int:
        return len(self._lengths)

    def extend(self, depth: int) -> None:
        """Continue to ``depth`` steps, at one product for each step and run; the host waits once a step."""
        while self.depth < depth and any(self._running):
            self._step()
        self.depth = depth

    @property
    def skew(self) -> float:
        """Frobenius norm of the operator's skew part on the Krylov space, root mean square over the runs.

        It measures rounding: with exactly symmetric products a vector is orthogonal to the images of all vectors but
        its two neighbours.
        """
        return float((self._on_cpu()[2].mean() / 2).sqrt())

    def nodes(self, run: int, depth: int) -> Nodes:
        """The Gauss quadrature of one run after ``depth`` steps.

        The spread of a node is its residual, within which there is an eigenvalue, but at most half the distance to the
        next node.
        """
        length = min(depth, self._lengths[run])
        diagonal, beside, _ = self._on_cpu()
        off_diagonal = beside[run, : length - 1]
        matrix = torch.diag(diagonal[run, :length]) + torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1)
        values, coordinates = torch.linalg.eigh(matrix)
        spread = beside[run, length - 1] * coordinates[-1].abs()
        if length > 1:
            half = values.diff() / 2
            spread[1:] = torch.minimum(spread[1:], half)
            spread[:-1] = torch.minimum(spread[:-1], half)
        return Nodes(values, coordinates[0] ** 2, spread, torch.zeros_like(values, dtype=torch.bool))

    def _on_cpu(self) -> tuple[Tensor, Tensor, Tensor]:
        """Diagonal, off-diagonal and skew part so far, copied from the device once after a step."""
        if self._read is None:
            both = torch.stack([self._diagonal, self._off_diagonal], 1)
            packed = torch.cat([both.flatten(1), self._skew[:, None]], 1).cpu()
            diagonal, off_diagonal = packed[:, :-1].unflatten(1, (2, -1)).unbind(1)
            self._read = diagonal, off_diagonal, packed[:, -1]
        return self._read

    def _step(self) -> None:
        here, alive, all_run = self.depth, self._alive, all(self._running)
        current = self._rows[:, here]
        images = torch.zeros_like(current)
        if all_run:
            products, finite = self._operator.unchecked(current.T)
            images.copy_(products.T)
        else:
            places = alive.nonzero()[:, 0]
            products, finite = self._operator.unchecked(current[places].T)
            images[places] = products.T.to(images)
        del products  # as large as the images
        self._diagonal[:, here] = (current.double() * images.double()).sum(1)
        self._lengths = [length + runs for length, runs in zip(self._lengths, self._running, strict=True)]
        known = self._rows[:, : here + 1]
        for again in (False, True):
            coefficients = torch.bmm(known, images[:, :, None])
            if here and not again:
                older = coefficients[:, :here, 0].double()
                older[:, -1] -= self._off_diagonal[:, here - 1]
                self._skew += torch.where(alive, older.square().sum(1), 0.0)
            images = images - torch.bmm(coefficients.transpose(1, 2), known)[:, 0]
        norms = images.double().norm(dim=1)
        scale = self._diagonal.abs().amax(1) + 2 * self._off_diagonal.amax(1)  # at least the norm of the projection
        self._off_diagonal[:, here] = norms
        epsilon = torch.finfo(images.dtype).eps
        self._alive = alive & (norms > 10 * epsilon * scale)
        short = (self._alive & (norms < _CANCELLED * epsilon * scale)).any()
        flags = [self._alive, short[None]] if finite is None else [self._alive, short[None], finite[None]]
        *self._running, any_short, all_finite = torch.cat(flags).tolist() + [True] * (finite is None)  # the one wait
        self._operator.refuse_unless(all_finite, current)
        following = images / norms.where(self._alive, 1.0).to(images)[:, None]
        if any_short:
            # Normalising a vector this short amplifies its rounding errors, which are not orthogonal to the others.
            following = following - torch.bmm(torch.bmm(known, following[:, :, None]).transpose(1, 2), known)[:, 0]
            following = following / following.norm(dim=1, keepdim=True).clamp_min(torch.finfo(images.dtype).tiny)
        self._rows[:, here + 1] = torch.where(self._alive[:, None], following, 0.0)
        self._read = None
        self.depth += 1
