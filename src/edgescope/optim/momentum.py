"""How past gradients enter a step, and the stability threshold that follows: one formula for every linear momentum."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.errors import InputError, NotKnownError

COMPANION = "eigenvalue -1 of the companion matrix of one mode"


@dataclass(frozen=True)
class Momentum:
    """Momentum of the form b' = memory b + gain g, u = direct g + through b', w' = (1 - eta lambda) w - eta u.

    It covers plain gradient descent (memory 0), Polyak (direct 0, through 1, gain 1 - dampening), Nesterov as torch
    writes it (direct 1, through memory) and exponential averages (gain 1 - memory), with a decoupled decay lambda.

    **Threshold.** On one mode g = h w the pair (w, b) is mapped by a matrix with

        trace = 1 - eta lambda - eta h (direct + through gain) + memory,
        determinant = memory (1 - eta lambda - eta h direct).

    Its eigenvalues lie inside the unit circle iff |determinant| < 1 and |trace| < 1 + determinant. For
    0 <= memory < 1, non-negative coefficients, h > 0 and 0 <= eta lambda < 2, the first to fail as h grows is
    trace > -1 - determinant: an eigenvalue leaves through -1, the iterate alternates in sign. Putting w' = -w, b' = -b
    into the update gives b' = gain h w / (1 + memory) and eta u = (2 - eta lambda) w, hence

        h = (2 - eta lambda) (1 + memory) / (eta [direct (1 + memory) + through gain]).

    A frozen preconditioner P, inside or outside the buffer, makes h an eigenvalue of P^-1 H.
    ``symbol`` and ``divisor`` are the texts of the memory and of the bracket, for the formula.
    """

    memory: float = 0.0
    gain: float = 1.0
    direct: float = 0.0
    through: float = 1.0
    symbol: str = "β"
    divisor: str = ""
    source: str = COMPANION

    def threshold(self, lr: float | None, decay: float = 0.0) -> tuple[float, str]:
        """Value and formula at learning rate ``lr``, in inverse units of it; None: without the learning rate.

        Raises :class:`InputError` for a memory outside [0, 1), which is unstable at every sharpness, and
        :class:`NotKnownError` where no gradient enters at all or one enters with the wrong sign.
        """
        if not 0 <= self.memory < 1:
            raise InputError(f"a momentum of {self.memory:g}", expected="at least 0 and less than 1")
        bracket = self.direct * (1 + self.memory) + self.through * self.gain
        if self.gain < 0 or bracket <= 0:
            raise NotKnownError("no threshold is known where dampening takes the whole gradient (dampening >= 1)")
        rate = 1.0 if lr is None else lr
        value = (2 - rate * decay) * (1 + self.memory) / (rate * bracket)
        if decay:
            top = "(2-ηλ)" + (f"(1+{self.symbol})" if self.memory else "")
        else:
            top = f"(2+2{self.symbol})" if self.memory else "2"
        bottom = (self.divisor if self.memory or self.gain != 1 else "") + ("" if lr is None else "η")
        return value, f"{top}/({bottom})" if len(bottom) > 1 else f"{top}/{bottom}" if bottom else top
