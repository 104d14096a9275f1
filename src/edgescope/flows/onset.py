"""The step at which a run begins to oscillate, from the cosines of successive steps."""

from __future__ import annotations

import math
from collections import deque

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError
from edgescope.options import checked, integer, real
from edgescope.short_errors import short_errors


@short_errors
class OscillationOnset:
    """Follows the weights of a run, and says when its steps begin to point back: ``update(w)`` after every step.

    The oscillation has begun where the mean cosine of the last ``window`` pairs of successive steps falls below
    ``below`` for the first time. ``pair`` are the two iterates of that step, from which
    ``es.TwoPointFlow(..., start=onset.pair)`` begins, ``step`` its number (the number of calls before it), and
    ``cosine`` the present mean, NaN before there are ``window`` pairs of steps. Once begun, it keeps the pair.

    At the edge of stability steps alternate, so that the cosine approaches -1; below it they point alike. Memory: two
    vectors. Cost: no evaluations. Raises :class:`InputError` for vectors whose lengths differ.
    """

    @checked(window=integer(1), below=real(least=-1, most=1))
    def __init__(self, window: int = 10, below: float = -0.3) -> None:
        self.window, self.below = window, below
        self.step: int | None = None
        self.pair: tuple[Float[Tensor, " P"], Float[Tensor, " P"]] | None = None
        self._calls = 0
        self._last: Tensor | None = None
        self._move: Tensor | None = None
        self._cosines: deque[float] = deque(maxlen=window)

    @property
    def cosine(self) -> float:
        """The mean cosine of the last ``window`` pairs of successive steps."""
        return sum(self._cosines) / self.window if len(self._cosines) == self.window else math.nan

    def update(self, w: Float[Tensor, " P"]) -> bool:
        """Whether the oscillation has begun, with the weights ``w`` after one more step."""
        if self._last is not None and w.shape != self._last.shape:
            raise InputError(
                f"weights of shape {tuple(w.shape)}", expected=f"shape {tuple(self._last.shape)}, as before"
            )
        if self.pair is not None:
            return True
        w = w.detach().clone()
        if self._last is not None:
            move = w - self._last
            if self._move is not None:
                length = float(move.double().norm() * self._move.double().norm())
                self._cosines.append(float(move.double() @ self._move.double()) / length if length else 0.0)
            if self.cosine < self.below:
                self.pair, self.step = (self._last, w), self._calls
            self._move = move
        self._last = w
        self._calls += 1
        return self.pair is not None
