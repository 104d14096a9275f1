"""How past gradients enter a step, and the stability threshold that follows: one formula for every linear momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgescope.errors import InputError, NotKnownError

COMPANION = "eigenvalue -1 of the companion matrix of one mode"
NO_STEP = "∞ (learning rate 0)"


@dataclass(frozen=True)
class Momentum:
    """Momentum of the form b' = memory b + gain g, u = direct g + through b', w' = (1 - eta lambda) w - eta u.

    It covers plain gradient descent (memory 0), Polyak (direct 0, through 1, gain 1 - dampening), Nesterov as torch
    writes it (direct 1, through memory) and exponential averages (gain 1 - memory), with a decoupled decay lambda. As
    a filter of the gradients it is Q(z) = direct + through gain z/(z - memory), a positive mixture of the identity and
    an exponential average.

    **Threshold of one mode.** With g = h w the pair (w, b) is mapped by a matrix with

        trace = 1 - eta lambda - eta h (direct + through gain) + memory,
        determinant = memory (1 - eta lambda - eta h direct).

    Its eigenvalues lie inside the unit circle iff |determinant| < 1 and |trace| < 1 + determinant. For
    0 <= memory < 1, non-negative coefficients, h > 0 and 0 <= eta lambda < 2, the first to fail as h grows is
    trace > -1 - determinant: an eigenvalue leaves through -1, the iterate alternates in sign. There u = Q(-1) h w and
    eta u = (2 - eta lambda) w, hence, with Gamma = Q(-1) = direct + through gain/(1 + memory), the ``gauge``,

        h = (2 - eta lambda)/(eta Gamma).

    A frozen preconditioner P, inside or outside the buffer, makes h an eigenvalue of P^-1 H.

    **Threshold of several filters.** Let block i of the parameters have its own eta_i, lambda_i, Q_i and P_i, all
    blocks coupled by one symmetric H. A mode w z^t needs (z - a_i) P_i w_i = -eta_i Q_i(z) (H w)_i, a_i = 1 - eta_i
    lambda_i. Divide by eta_i Q_i, multiply by conj(w_i) and sum: since w* H w is real,

        sum_i Im[(a_i - z)/Q_i(z)] w_i* P_i w_i / eta_i = 0.

    On z = e^(i omega), 0 < omega < pi, Im[Q_i/(a_i - z)] > 0 for an exponential average gain z/(z - m), as
    Im[(a - z)(z - m)/z] = -(1 - a m) sin(omega) < 0, and so for a positive mixture; every term of the sum is negative,
    and no mode lies there. An eigenvalue can leave at z = -1 (or, with negative curvature, be outside through z = 1):
    H w = M w there, M_i = P_i (2 - eta_i lambda_i)/(eta_i Gamma_i). So the whole is unstable, as H grows, exactly from
    where the largest eigenvalue of M^(-1/2) H M^(-1/2) is 1. (One filter: Lee and Lee, "The road taken", Lemma B.3.)

    ``symbol`` and ``divisor`` are the texts of the memory and of direct (1 + memory) + through gain, for the formula.
    """

    memory: float = 0.0
    gain: float = 1.0
    direct: float = 0.0
    through: float = 1.0
    symbol: str = "β"
    divisor: str = ""
    source: str = COMPANION

    @property
    def gauge(self) -> float:
        """Gamma = Q(-1), how strongly gradients that alternate in sign enter a step; 1 without momentum.

        Raises :class:`InputError` for a memory outside [0, 1), which is unstable at every sharpness, and
        :class:`NotKnownError` where no gradient enters at all or one enters with the wrong sign.
        """
        if not 0 <= self.memory < 1:
            raise InputError(f"a momentum of {self.memory:g}", expected="at least 0 and less than 1")
        gauge = self.direct + self.through * self.gain / (1 + self.memory)
        if self.gain < 0 or gauge <= 0:
            raise NotKnownError("no threshold is known where dampening takes the whole gradient (dampening >= 1)")
        if self.direct < 0 or self.through < 0:
            raise NotKnownError("no threshold is known for a momentum that subtracts gradients")
        return gauge

    @property
    def steady(self) -> float:
        """Q(1), how strongly gradients that stay the same enter a step: 1/(1 - memory) for Polyak; as ``gauge``."""
        _ = self.gauge  # which checks
        return self.direct + self.through * self.gain / (1 - self.memory)

    def threshold(self, lr: float | None, decay: float = 0.0) -> tuple[float, str]:
        """Value and formula at learning rate ``lr``, in inverse units of it (infinite at 0); None: with a rate of 1.

        Raises as ``gauge`` does.
        """
        gauge = self.gauge
        if lr == 0:
            return math.inf, NO_STEP
        rate = 1.0 if lr is None else lr
        if decay:
            top = "(2-ηλ)" + (f"(1+{self.symbol})" if self.memory else "")
        else:
            top = f"(2+2{self.symbol})" if self.memory else "2"
        bottom = (self.divisor if self.memory or self.gain != 1 else "") + ("" if lr is None else "η")
        value = (2 - rate * decay) / (rate * gauge)
        return value, f"{top}/({bottom})" if len(bottom) > 1 else f"{top}/{bottom}" if bottom else top
