"""Muon as ``torch.optim.Muon`` steps it, and the metric of its orthogonalised update."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.geometry.polar import iterate
from edgescope.linalg.metric import Metric
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rule import Group, UpdateRule

MUON = f"Jordan et al. 2024 (Muon), frozen preconditioner; {COMPANION}"


class MuonRule(UpdateRule):
    """b' = mu b + (1 - mu) g, u = b' or (1 - mu) g + mu b' (Nesterov), w' = (1 - eta lambda) w - eta c O(u).

    O is a polynomial Newton-Schulz iteration on u/||u||_F, and c the factor by which torch adjusts the rate to the
    shape of the matrix. ``update`` runs the iteration in the dtype of w (torch runs it in bfloat16, so a step agrees
    with torch's to about 1e-2 of its length, and exactly when torch's iteration is given the same dtype).

    **Preconditioner.** The iteration is exactly O(u) = P^-1 u with P = ||u||_F Q diag(1/gain(s)) Q^T, where u/||u||_F
    has the left singular vectors Q (right ones for a tall matrix: the smaller side) and singular values s, and
    s gain(s) is what the iteration makes of s. Where s gain(s) is 1 this is P = (u u^T)^(1/2), the polar factor's
    preconditioner; torch's default coefficients give 0.68 to 1.21 instead, for s above 0.002. A rank-deficient u needs
    no special care: gain(0) = a^k (485 by default), so P >= ||u||_F / a^k is positive definite.

    **What is approximate.** P is frozen, as for Adam: its own dependence on u is left out, though it cancels every
    change of u that only rescales its singular values. The threshold is therefore an account, not a
    theorem; ``update_jacobian`` has the exact linearisation. bfloat16 rounding is left out too. The state holds b, not
    u: ``metric()`` takes b for u, and ``metric(gradient)`` the exact u of the next step.

    **Threshold** on P^-1 H, c absorbed in P, decay decoupled (derivation: :class:`Momentum`):
    (2 - eta lambda)(1 + mu)/((1 - mu)(1 + 2 mu) eta) with Nesterov, (2 - eta lambda)(1 + mu)/((1 - mu) eta) without.
    """

    kinds = (torch.optim.Muon,)

    def vectors(self) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])

    def advance(
        self, group: Group, w: Tensor, state: dict[str, Tensor], gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        lr, mu = float(group["lr"]), float(group["momentum"])
        buffer = mu * state["momentum_buffer"] + (1 - mu) * gradient
        direction = newton_schulz(group, _blend(group, buffer, gradient))
        return (1 - lr * self.decoupled_decay(group)) * w - lr * _rate_factor(group, w) * direction, {
            "momentum_buffer": buffer
        }

    def preconditioner(self, group: Group, state: dict[str, Tensor], gradient: Tensor | None = None) -> Tensor:
        buffer = state["momentum_buffer"].detach()
        u = (buffer if gradient is None else _blend(group, buffer, gradient.detach())).double()
        vectors, values, _ = torch.linalg.svd(u if u.shape[0] <= u.shape[1] else u.T, full_matrices=False)
        norm = float(u.norm().clamp(min=group["eps"]))
        gain, s = torch.ones_like(values), values / norm
        a, b, c = group["ns_coefficients"]
        for _ in range(group["ns_steps"]):
            factor = a + b * s**2 + c * s**4
            gain, s = gain * factor, s * factor
        if not bool((gain > 0).all()):
            raise NotKnownError(
                f"Muon with ns_coefficients={tuple(group['ns_coefficients'])} turns some directions round",
                expected="a polynomial that is positive on (0, 1], such as torch's default",
            )
        return (vectors * (norm / gain)) @ vectors.T / _rate_factor(group, u)

    def assemble(self, scales: list[float], pieces: list[Tensor]) -> Metric:
        return OneSided([scale * p for scale, p in zip(scales, pieces, strict=True)], [t.shape for t in self.tensors])

    def momentum(self) -> Momentum:
        mu = float(self.option("momentum"))
        if self.option("nesterov"):
            return Momentum(mu, 1 - mu, 1 - mu, mu, symbol="μ", divisor="(1-μ)(1+2μ)", source=MUON)
        return Momentum(mu, gain=1 - mu, symbol="μ", divisor="(1-μ)", source=MUON)


class OneSided(Metric):
    """A metric of matrices that acts on the smaller side of each: on the rows (d -> M d), for tall ones on the columns.

    ``sides`` are the symmetric positive matrices M, in float64, ``shapes`` those of the matrices, which lie one after
    the other in a vector. One eigendecomposition a side, O(min(m, n)^3), when it is made.
    """

    def __init__(self, sides: list[Float[Tensor, "m m"]], shapes: list[torch.Size]) -> None:
        self.shapes = shapes
        self.size = sum(shape.numel() for shape in shapes)
        self._eigen = [torch.linalg.eigh(side) for side in sides]
        if not all(bool((torch.isfinite(values) & (values > 0)).all()) for values, _ in self._eigen):
            raise InputError("a preconditioner that is not positive definite", expected="positive eigenvalues")

    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self._apply(block, -0.5)

    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self._apply(block, 0.5)

    def _apply(self, block: Tensor, power: float) -> Tensor:
        results = []
        pieces = block.split([shape.numel() for shape in self.shapes])
        for piece, (rows, columns), (values, vectors) in zip(pieces, self.shapes, self._eigen, strict=True):
            side = ((vectors * values**power) @ vectors.T).to(block)
            cube = piece.view(rows, columns, -1)
            product = torch.einsum("ab,bnk->ank" if rows <= columns else "bc,abk->ack", side, cube)
            results.append(product.reshape(piece.shape))
        return torch.cat(results)


def newton_schulz(group: Group, u: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The iteration of ``torch.optim.Muon`` with the options of ``group``, in the dtype of ``u``."""
    return iterate(u / u.norm().clamp(min=group["eps"]), (group["ns_coefficients"],) * group["ns_steps"])


def _blend(group: Group, buffer: Tensor, gradient: Tensor) -> Tensor:
    mu = float(group["momentum"])
    return (1 - mu) * gradient + mu * buffer if group["nesterov"] else buffer


def _rate_factor(group: Group, matrix: Tensor) -> float:
    rows, columns = matrix.shape
    if group["adjust_lr_fn"] == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))
