"""Lanczos runs from several vectors side by side: one block of products a step, each run fully reorthogonalised."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


class Lanczos:
    """R independent runs on vectors of length P; ``depth`` steps done; room for ``capacity`` steps is reserved.

    ``multiply`` takes and returns ``(P, j)``. A run whose space is exhausted stops and costs no further product. The
    tridiagonal matrices are float64; a new vector is orthogonalised twice against all before it, which is what keeps
    copies of eigenvalues out.
    """

    def __init__(
        self,
        multiply: Callable[[Float[Tensor, "P j"]], Float[Tensor, "P j"]],
        starts: Float[Tensor, "P R"],
        capacity: int,
    ) -> None:
        size, runs = starts.shape
        self._multiply = multiply
        self._rows = torch.empty((runs, capacity + 1, size), dtype=starts.dtype, device=starts.device)
        self._rows[:, 0] = (starts / starts.norm(dim=0)).T
        self._diagonal = torch.zeros((runs, capacity), dtype=torch.float64)
        self._beside = torch.zeros((runs, capacity), dtype=torch.float64)
        self._lengths = torch.zeros(runs, dtype=torch.int64)
        self._alive = torch.ones(runs, dtype=torch.bool)
        self.depth = 0

    @property
    def runs(self) -> int:
        return len(self._lengths)

    def extend(self, depth: int) -> None:
        """Go on until ``depth`` steps are done, at one product a step and run."""
        while self.depth < depth and bool(self._alive.any()):
            self._step()
        self.depth = depth

    def measure(self, run: int, depth: int) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Nodes and weights (their sum is 1) of the Gauss quadrature of one run after ``depth`` steps."""
        length = min(depth, int(self._lengths[run]))
        beside = self._beside[run, : length - 1]
        matrix = torch.diag(self._diagonal[run, :length]) + torch.diag(beside, 1) + torch.diag(beside, -1)
        nodes, coordinates = torch.linalg.eigh(matrix)
        return nodes, coordinates[0] ** 2

    def _step(self) -> None:
        here, alive = self.depth, self._alive
        current = self._rows[:, here]
        images = torch.zeros_like(current)
        images[alive] = self._multiply(current[alive].T).T.to(images)
        self._diagonal[:, here] = (current.double() * images.double()).sum(1).cpu()
        self._lengths[alive] += 1
        known = self._rows[:, : here + 1]
        for _ in range(2):
            coefficients = torch.bmm(known, images[:, :, None])
            images = images - torch.bmm(coefficients.transpose(1, 2), known)[:, 0]
        norms = images.double().norm(dim=1).cpu()
        scale = self._diagonal.abs().amax(1) + 2 * self._beside.amax(1)  # at least the norm of what was seen
        self._beside[:, here] = norms
        self._alive = alive & (norms > 10 * torch.finfo(images.dtype).eps * scale)
        self._rows[:, here + 1] = images / norms.where(self._alive, 1.0).to(images)[:, None]
        self._rows[~self._alive, here + 1] = 0
        self.depth += 1
