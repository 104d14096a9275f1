"""Muon as ``torch.optim.Muon`` steps it, and the metric of its orthogonalised update."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.geometry.polar import iterate
from edgescope.linalg.metric import Metric
from edgescope.optim.held_state import Group
from edgescope.optim.momentum import COMPANION, Momentum
from edgescope.optim.rule import UpdateRule

MUON = f"Jordan et al. 2024 (Muon), frozen preconditioner; {COMPANION}"


class MuonRule(UpdateRule):
    """b' = mu b + (1 - mu) g, u = b' or (1 - mu) g + mu b' (Nesterov), w' = (1 - eta lambda) w - eta c O(u).

    O is a polynomial Newton-Schulz iteration on u/||u||_F, and c the factor by which torch adjusts the rate to the
    shape of the matrix. ``update`` runs the iteration in the dtype of w (torch runs it in bfloat16; given the same
    dtype, torch's step agrees exactly).

    **Rounding.** The iteration multiplies what bfloat16 makes of the singular values that are 0 by up to a^k (485 by
    default). Over random matrices of 2 x 2 to 128 x 512 torch's step was off by up to 3% of its length at full rank
    and a condition number of some 10, by up to 30% where three quarters of the singular values are 0, and by up to 170%
    (cosine 0.51) at rank 1. No constant describes that, so ``rounding`` runs the iteration in both precisions.

    **Preconditioner.** The iteration is exactly O(u) = P^-1 u with P = ||u||_F Q diag(1/gain(s)) Q^T, where u/||u||_F
    has the left singular vectors Q (right ones for a tall matrix: the smaller side) and singular values s, and
    s gain(s) is what the iteration makes of s. Where s gain(s) is 1 this is P = (u u^T)^(1/2), the polar factor's
    preconditioner; torch's default coefficients give 0.68 to 1.21 instead, for s above 0.002. A rank-deficient u needs
    no special care: gain(0) = a^k (485 by default), so P >= ||u||_F / a^k is positive definite.

    **What is approximate.** P is frozen, as for Adam: its own dependence on u is left out, though it cancels every
    change of u that only rescales its singular values. The threshold is therefore a heuristic (see
    its ``caveat``): the loss may keep falling in runs far above it. ``update_jacobian`` has the exact
    linearisation. bfloat16 rounding is left out too. The state holds b, not u: ``metric()`` takes b for u, and
    ``metric(gradient)`` the exact u of the next step.

    **Threshold** on P^-1 H, c absorbed in P, decay decoupled (derivation: :class:`Momentum`):
    (2 - eta lambda)(1 + mu)/((1 - mu)(1 + 2 mu) eta) with Nesterov, (2 - eta lambda)(1 + mu)/((1 - mu) eta) without.
    """

    kinds = (torch.optim.Muon,)
    caveat = "Muon's preconditioner is taken as frozen, so the threshold is a heuristic"

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
                f"Muon with ns_coefficients={tuple(group['ns_coefficients'])} reverses some directions",
                expected="a polynomial that is positive on (0, 1], such as torch's default",
            )
        return (vectors * (norm / gain)) @ vectors.T / _rate_factor(group, u)

    def assemble(self, scales: list[float], pieces: list[Tensor | None]) -> Metric:
        sides = [
            None if scale == math.inf or piece is None else scale * piece
            for scale, piece in zip(scales, pieces, strict=True)
        ]
        return OneSided(sides, [t.shape for t in self.tensors])

    def rounding(self, state: dict[str, Tensor], gradient: Float[Tensor, " P"]) -> float:
        """From the iteration in bfloat16 and the one in float64, with the same operations as in torch."""
        off = length = 0.0
        still = all(float(group["lr"]) == 0 for group in self.groups())  # since the step, as schedules end
        pieces = zip(self.tensors, self.groups(), self._split_state(state), self.split(gradient), strict=True)
        for tensor, group, own, slope in pieces:
            mu, slope = float(group["momentum"]), slope.to(tensor)
            buffer = own["momentum_buffer"].to(tensor).lerp(slope, 1 - mu)
            u = slope.lerp(buffer, mu) if group["nesterov"] else buffer
            factor = _rate_factor(group, tensor) * (1.0 if still else float(group["lr"]))
            exact = newton_schulz(group, u.double())
            off += (factor * float((_in_bfloat16(group, u).double() - exact).norm())) ** 2
            length += (factor * float(exact.norm())) ** 2
        return math.sqrt(off / length) if length > 0 else 0.0

    def momentum_of(self, group: Group) -> Momentum:
        mu = float(group["momentum"])
        if group["nesterov"]:
            return Momentum(mu, 1 - mu, 1 - mu, mu, symbol="μ", divisor="(1-μ)(1+2μ)", source=MUON)
        return Momentum(mu, gain=1 - mu, symbol="μ", divisor="(1-μ)", source=MUON)


class OneSided(Metric):
    """A metric of matrices that acts on the smaller side of each: on the rows (d -> M d), for tall ones on the columns.

    ``sides`` are the symmetric positive matrices M, in float64, None for a matrix of constants; ``shapes`` are those
    of the matrices, which lie one after the other in a vector. One eigendecomposition a side, O(min(m, n)^3), when it
    is made.
    """

    def __init__(self, sides: list[Float[Tensor, "m m"] | None], shapes: list[torch.Size]) -> None:
        self.shapes = shapes
        self.size = sum(shape.numel() for shape in shapes)
        self._eigen = [None if side is None else torch.linalg.eigh(side) for side in sides]
        known = [each[0] for each in self._eigen if each is not None]
        if not all(bool((torch.isfinite(values) & (values > 0)).all()) for values in known):
            raise InputError("a preconditioner that is not positive definite", expected="positive eigenvalues")

    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self._apply(block, -0.5)

    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self._apply(block, 0.5)

    def _apply(self, block: Tensor, power: float) -> Tensor:
        results = []
        pieces = block.split([shape.numel() for shape in self.shapes])
        for piece, (rows, columns), eigen in zip(pieces, self.shapes, self._eigen, strict=True):
            if eigen is None:
                results.append(torch.zeros_like(piece))
                continue
            values, vectors = eigen
            side = ((vectors * values**power) @ vectors.T).to(block)
            cube = piece.view(rows, columns, -1)
            product = torch.einsum("ab,bnk->ank" if rows <= columns else "bc,abk->ack", side, cube)
            results.append(product.reshape(piece.shape))
        return torch.cat(results)


def newton_schulz(group: Group, u: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The iteration of ``torch.optim.Muon`` with the options of ``group``, in the dtype of ``u``."""
    return iterate(u / u.norm().clamp(min=group["eps"]), (group["ns_coefficients"],) * group["ns_steps"])


def _in_bfloat16(group: Group, u: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The same in bfloat16, with each operation rounded where ``torch.optim.Muon`` rounds it."""
    tall = u.shape[0] > u.shape[1]
    x = u.bfloat16().T if tall else u.bfloat16()
    x = x / x.norm().clamp(min=group["eps"])
    a, b, c = group["ns_coefficients"]
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _blend(group: Group, buffer: Tensor, gradient: Tensor) -> Tensor:
    mu = float(group["momentum"])
    return (1 - mu) * gradient + mu * buffer if group["nesterov"] else buffer


def _rate_factor(group: Group, matrix: Tensor) -> float:
    rows, columns = matrix.shape
    if group["adjust_lr_fn"] == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))
