"""The central flow: where an optimizer past its threshold goes on average, and how it oscillates about there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.flows.averaged import CRITICAL, AveragedRule, Slow, advanced
from edgescope.flows.checks import check_objective, check_start, check_substeps, warn_of_kinks
from edgescope.flows.covariance import CriticalCovariance, critical_covariance, no_covariance
from edgescope.flows.critical_pairs import CriticalTracker
from edgescope.notebooks import in_notebooks
from edgescope.objective.objective import Objective
from edgescope.objective.third import compared, curvature_gradient
from edgescope.optim.unwrap import OptimizerLike
from edgescope.options import check_bool, checked, integer, real, type_of
from edgescope.short_errors import short_errors


@in_notebooks
@dataclass(frozen=True)
class FlowStep:
    """The central flow at ``time``, in steps of the optimizer since it started.

    ``loss`` is that of the objective at the flow's weights, and ``predicted_loss`` the average of the losses that the
    oscillating optimizer sees there; ``predicted_gradient_square`` is the average of its squared gradient norms.
    ``values`` are the largest eigenvalues of the Hessian (with coupled decay) in units in which the threshold is 2, the
    sharpness times the learning rate for gradient descent. ``covariance`` (k, k) and ``basis`` (P, k) say how the
    iterates w_t scatter around the flow: E (w_t - w)(w_t - w)^T = basis @ covariance @ basis.T, where basis^T K basis =
    I, and K is 1/(learning rate) for gradient descent, the preconditioner over the learning rate for RMSProp
    (:class:`~edgescope.flows.averaged.AveragedRule`). Both are empty below the threshold. ``cost`` is that of the step.
    """

    time: float
    loss: float
    predicted_loss: float
    predicted_gradient_square: float
    values: Float[Tensor, " j"]
    covariance: Float[Tensor, "k k"]
    basis: Float[Tensor, "P k"]
    cost: Cost


@dataclass(frozen=True)
class _Place:
    """What is known at the flow's weights: the oscillation, and where weights and slow state go from here."""

    loss: float
    gradient_square: float
    values: Float[Tensor, " j"]
    covariance: CriticalCovariance
    drift: Float[Tensor, " P"]
    rate: Slow


@short_errors
class CentralFlow:
    """The time-averaged trajectory of an optimizer at the edge of stability (Cohen, Damian et al., arXiv 2410.24206).

    The flow starts from the model's weights and the optimizer's state as they are now, both of which it copies and
    leaves as they are. Its weights w obey

        dw/dt = -P^-1 [g + grad <H, Sigma>/2],  H <= 2K,  Sigma >= 0,  H Sigma = 2K Sigma,

    with Sigma, the covariance of the iterates around w, held fixed under the gradient. For gradient descent P = K =
    1/(learning rate): it is gradient flow, projected so that the sharpness never exceeds 2/(learning rate). For RMSProp
    (without momentum, not centered) P = K is its preconditioner over the learning rate, whose second moments follow
    g^2 + diag(H Sigma H). Momentum: P = (1 - beta)/(learning rate), H <= (2 + 2 beta)/(learning rate). Coupled weight
    decay is part of the loss. Each group of parameters may have its own options. Other optimizers raise
    :class:`NotKnownError`.

    **Adam** is not known either; with ``experimental`` it has the flow of RMSProp with bias corrections, for
    P = (sqrt(v) + eps)/(learning rate) and the threshold 2K = (2 + 2 beta1)/(1 - beta1) P of exponential averages. This
    was compared with a few runs of one small network (docs/central.md has the figures). Not for amsgrad.

    **Correction.** Even where nothing oscillates, gradient descent follows the flow of L + (eta/4) ||g||^2 rather than
    that of L. With ``correction`` g is replaced by g + ((1 - dt)/2) H P^-1 g, dt = 1/substeps, which made the distance
    from descent 2.5 to 3.3 times smaller. With momentum it is left out (``corrected`` is False), since it is not known.

    **Where it does not hold.** With momentum the flow takes the buffer as settled, b = g/(1 - beta), and the
    oscillation as in equilibrium; that of heavy ball dies out and returns, and the prediction fails in between. The
    losses of ReLU networks have kinks that differences over them do not see: there is a warning. Mini-batches are not
    described.

    Args:
        objective: the training loss over all data, without dropout.
        optimizer: what trains its model.
        substeps: Euler steps for each step of the optimizer: at least 1, 2 with the correction, and half of
            2 (1 + beta)/(1 - beta) with momentum beta. At dt = 1/2 a mode at the threshold is damped at once.
        correction: see above.
        band: directions with eigenvalues above 2 (1 - band) may oscillate; it is to exceed what they move in a substep.
        most: the largest number of directions that oscillate at once.
        experimental: take what is only proposed, the flow of Adam (without amsgrad and decoupled decay).

    Raises :class:`InputError` where the sharpness at the start is above the threshold by more than ``band``, for more
    critical directions than ``most``, and where curvature does not depend on the weights (no self-stabilization).

    Cost: of a substep with k critical directions 1 + k(k+1) gradients and some 2 to 4 (k+1) products (and k(k+1)
    products in the place of gradients in float32); once 3 gradients and 2 products for a check of third derivatives.
    """

    @checked(
        substeps=integer(1),
        correction=check_bool,
        band=real(above=0, below=1),
        most=integer(1),
        experimental=check_bool,
    )
    @in_plain_arithmetic
    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerLike,
        substeps: int = 2,
        correction: bool = True,
        band: float = 0.04,
        most: int = 8,
        *,
        experimental: bool = False,
    ) -> None:
        check_objective(objective, "a central flow")
        warn_of_kinks(objective)
        self.objective = objective
        self.averaged = AveragedRule(objective, optimizer, experimental)
        self.corrected = correction and not self.averaged.momentum
        check_substeps(substeps, self.averaged.stiffness, self.corrected)
        self.substeps, self.band, self.most = substeps, band, most
        self._dt = 1 / substeps
        self._lowest = CRITICAL * (1 - band)
        self._tracker = CriticalTracker(self._lowest, most + 1)
        self._substep = 0
        self._weights = objective.parameters()
        self._slow = self.averaged.slow
        self._agreement: float | None = None
        self._place = self._evaluated()
        check_start(float(self._place.values[0]) / CRITICAL, band)

    @property
    def weights(self) -> Float[Tensor, " P"]:
        """The flow's weights now, a copy."""
        return self._weights.clone()

    @property
    def slow_state(self) -> Slow:
        """The flow's second moments now, as copies; empty for optimizers without them."""
        return {name: value.clone() for name, value in self._slow.items()}

    @property
    def time(self) -> float:
        """Steps of the optimizer since the flow started."""
        return self._substep / self.substeps

    @in_plain_arithmetic
    def step(self) -> FlowStep:
        """Advance by one step of the optimizer, and return what the flow predicts there."""
        before = self.objective.spent
        for _ in range(self.substeps):
            self._weights = self._weights + self._dt * self._place.drift
            self._slow = advanced(self._slow, self._place.rate, self._dt)
            self._substep += 1
            self._place = self._evaluated()
        return self._step(self.objective.spent - before)

    def now(self) -> FlowStep:
        """What the flow predicts where it is now; free of cost."""
        return self._step(Cost())

    def state(self) -> dict[str, Tensor]:
        """All that the flow needs to continue to the bit, as tensors."""
        place = self._place
        agreement = math.nan if self._agreement is None else self._agreement
        known = [self._substep, place.loss, place.gradient_square, agreement]
        numbers = torch.tensor(known, dtype=torch.float64, device="cpu")
        found = {"numbers": numbers, "weights": self._weights.clone(), "drift": place.drift.clone()}
        found |= {"values": place.values.clone()}
        found |= {f"covariance.{name}": value.clone() for name, value in vars(place.covariance).items()}
        found |= {f"slow.{name}": value.clone() for name, value in self._slow.items()}
        found |= {f"rate.{name}": value.clone() for name, value in place.rate.items()}
        return found | {f"tracker.{name}": value for name, value in self._tracker.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a result of ``state()`` of a flow with the same objective and options."""
        if not isinstance(state, Mapping):
            raise InputError(f"the state of a flow that is {type_of(state)}", expected="a result of state()")
        parts: dict[str, dict[str, Tensor]] = {"covariance": {}, "slow": {}, "rate": {}, "tracker": {}}
        for name, value in state.items():
            part, dot, rest = name.partition(".")
            if dot and part in parts:
                parts[part][rest] = value.clone()
        try:
            substep, loss, square, agreement = state["numbers"].tolist()
            weights = state["weights"].clone()
            swing = CriticalCovariance(**parts["covariance"])
            place = _Place(loss, square, state["values"].clone(), swing, state["drift"].clone(), parts["rate"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("the state of a flow is not whole", expected="a result of state()") from error
        if weights.shape != self._weights.shape or parts["slow"].keys() != self._slow.keys():
            raise InputError("the state of a flow of another objective or optimizer", expected="one of the same")
        self._tracker.load_state(parts["tracker"])
        self._substep, self._weights, self._slow, self._place = int(substep), weights, parts["slow"], place
        self._agreement = None if math.isnan(agreement) else agreement

    def _evaluated(self) -> _Place:
        """The flow's equations at the present weights and slow state."""
        w, slow, rule = self._weights, self._slow, self.averaged
        operator = rule.rule.effective(self.objective.operator(w))
        with operator.held():
            pairs = self._tracker.update(operator, rule.metric(slow))
            own = self.objective.gradient(w)
            loss = float(self.objective.loss(w))
            gradient = own if rule.shift is None else own + rule.shift * w
            inverse = rule.inverse(slow)
            velocity = inverse * gradient
            if self.corrected:
                velocity = velocity + (1 - self._dt) / 2 * inverse * (operator @ velocity)
        k = int((pairs.values > self._lowest).sum())
        if k > self.most:
            raise InputError(
                f"more than {self.most} directions are critical at time {self.time:g}",
                hint=f"a most above {self.most}, or a band below {self.band:g}",
            )
        square = gradient.square()
        swing = no_covariance(w) if k == 0 else self._swing(pairs.values[:k], pairs.vectors[:, :k], velocity, square)
        drift = -velocity - inverse * swing.force
        rate = rule.rate(slow, square + swing.square) if slow else {}
        own_square = float(own.double().square().sum())
        return _Place(loss, own_square, pairs.values.clone(), swing, drift, rate)

    def _swing(
        self,
        values: Float[Tensor, " k"],
        basis: Float[Tensor, "P k"],
        velocity: Float[Tensor, " P"],
        square: Float[Tensor, " P"],
    ) -> CriticalCovariance:
        w = self._weights
        if self._agreement is None:
            self._agreement = compared(self.objective, basis, w)
        gradients = curvature_gradient(self.objective, basis, w).vectors
        return critical_covariance(self.averaged, self._slow, values, basis, gradients, velocity, square, self._dt)

    def _step(self, cost: Cost) -> FlowStep:
        place, rule, swing = self._place, self.averaged, self._place.covariance
        predicted, square = place.loss + float(swing.covariance.trace()), place.gradient_square
        slopes = CRITICAL * rule.critical(self._slow)[:, None] * swing.basis
        if rule.shift is not None:  # predictions are those of the objective, without the decay
            spread = ((swing.basis @ swing.covariance) * swing.basis).sum(1)
            predicted -= 0.5 * float(rule.shift @ spread)
            slopes = slopes - rule.shift[:, None] * swing.basis
        square += float(((slopes @ swing.covariance) * slopes).sum())
        return FlowStep(self.time, place.loss, predicted, square, place.values, swing.covariance, swing.basis, cost)
