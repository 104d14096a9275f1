"""One singular mode of a deep linear network under weight decay: stationary states, barriers and escape times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from edgescope.errors import InputError
from edgescope.theory.arguments import (
    Array,
    Numbers,
    Scalars,
    as_numbers,
    as_positive,
    elementwise,
    one_number,
    plain,
    positive_number,
    require,
    whole_number,
)

_SLACK = 1e-14  # relative tolerance, so that a critical decay rounded differently is still the end of the branch
_CLOSE = 0.2  # ln(critical decay / decay) below which the downward barrier is an integral, not a difference
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


@dataclass(frozen=True)
class Mode:
    """One singular mode of a deep linear network with weight decay, all of its ``depth`` weights equal to w.

    Its energy is E(w) = (s - w^D)^2 / 2 + D beta w^2 / 2, with D = ``depth`` the number of weight matrices, s =
    ``signal`` the singular value of the input-output correlation, and beta the weight ``decay``, the coefficient in
    the loss ||.||^2 / 2 + beta / 2 sum_l ||W_l||^2. Inputs of variance v = ``variance`` (covariance v times identity)
    turn it into v (s/v - w^D)^2 / 2 + D beta w^2 / 2, up to a constant. The product p = w^D is the strength of the
    mode in the end-to-end map.

    Depth 3 and more: 0 is a minimum at every decay, the learned state ``minimum`` exists up to ``critical_decay`` and
    is the lower of the two up to ``coexistence_decay``; between them lies ``saddle``. Depth 2: the learned state goes
    to zero continuously at decay s. Depth 1: ridge regression, no transition.

    ``decay``, ``temperature``, ``w`` and ``w0`` are numbers or arrays, broadcast against each other; numbers give
    numbers. Results are float64 with a relative accuracy of about 1e-12 unless stated otherwise; close to the critical
    decay they depend on the last digit of ``decay`` like a square root at zero. Methods raise :class:`InputError` that
    names the first value which is not positive, or for which the state does not exist.

    Source: Ersoy and Wiesner 2026, arXiv 2606.17120, corrected. Their regularised loss lacks the factor D before the
    decay, which the conditions that follow from it have. The saddle (0.41) and barrier (0.003) that they quote at decay
    0.32 for signal 0.8 do not solve their equations: w is 0.452 and the barrier up 0.0285, and since 0.32 is above the
    coexistence decay 0.295, the lower rank, not the higher, is the global minimum there.
    """

    depth: int
    signal: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", whole_number(self.depth, "depth", 1))
        object.__setattr__(self, "signal", positive_number(self.signal, "signal"))
        object.__setattr__(self, "variance", positive_number(self.variance, "variance"))

    # Where the transition is.

    def order(self, decay: Numbers | None = None) -> Any:
        """The order of the transition as weight decay changes: 1 from depth 3 on, 2 at depth 2, 0 (none) at depth 1.

        It does not depend on the decay; an array of decays gives an array.
        """
        order = (0, 2, 1)[min(self.depth, 3) - 1]
        if decay is None:
            return order
        return plain(np.full(as_positive(decay, "decay").shape, order))

    def critical_decay(self) -> float:
        """The end of the learned state (upper spinodal): (s (1-k) / (2-k))^(2-k) / (1-k) with k = 2/D; s at depth 2.

        That is 3 (s/4)^(4/3) at depth 3. The lower spinodal is 0: from depth 3 on the Hessian at the origin is decay
        times identity.
        """
        self._needs(2, "critical decay")
        return float(self._end)

    def critical_product(self) -> float:
        """The product p of the learned state at the critical decay: s (D-2) / (2D-2)."""
        self._needs(2, "critical decay")
        return self._best * self._top

    def coexistence_decay(self) -> float:
        """The decay at which learned state and origin have equal energy: (s/2)^(4/3) at depth 3, s at depth 2."""
        self._needs(2, "coexistence decay")
        return float(self._unit * (1 - 2 * self._top) * (2 * self._top) ** self._power)

    def coexistence_product(self) -> float:
        """The product p of the learned state at the coexistence decay: s (D-2) / (D-1)."""
        self._needs(2, "coexistence decay")
        return 2 * self.critical_product()

    # The states.

    def saddle(self, decay: Numbers) -> Any:
        """The weight w of the saddle between the origin and the learned state, for depth >= 3 and decay up to critical.

        For small decay it is about (decay/s)^(1/(D-2)).
        """
        return plain(self._width * np.exp(self._saddle(self._first_order(decay, "saddle"))))

    def saddle_product(self, decay: Numbers) -> Any:
        """The product p = w^D of the saddle."""
        return plain(self._best * self._top * np.exp(self.depth * self._saddle(self._first_order(decay, "saddle"))))

    def minimum(self, decay: Numbers) -> Any:
        """The weight w of the learned state: from depth 3 on for decay up to critical, else for all (0 above s)."""
        return plain(np.asarray(self.minimum_product(decay)) ** (1 / self.depth))

    def minimum_product(self, decay: Numbers) -> Any:
        """The product p = w^D of the learned state: s - decay at depth 2, s / (1 + decay) at depth 1."""
        if self.depth == 1:
            return plain(self.signal / (self.variance + as_positive(decay, "decay")))
        if self.depth == 2:
            return plain(np.maximum(self.signal - as_positive(decay, "decay"), 0) / self.variance)
        below = self._first_order(decay, "learned state")
        return plain(self._best * self._top * np.exp(self.depth * self._minimum(below)))

    def energy(self, w: Numbers, decay: Numbers) -> Any:
        """E(w) with all weights of the mode equal to w (of any sign); inf where it overflows."""
        w, decay = as_numbers(w, "w"), as_positive(decay, "decay")
        with np.errstate(over="ignore"):
            misfit = self.variance * (self._best - w**self.depth) ** 2
            return plain((misfit + self.depth * decay * w**2) / 2)

    # The barriers.

    def barrier_up(self, decay: Numbers) -> Any:
        """E(saddle) - E(0), the barrier to learning; about decay^3 / (2 s^2) at depth 3, larger for greater depth."""
        p = self._best * self._top * np.exp(self.depth * self._saddle(self._first_order(decay, "barrier")))
        return plain(self._above_origin(p))

    def barrier_down(self, decay: Numbers) -> Any:
        """E(saddle) - E(minimum), the barrier to losing the learned state; 0 at the critical decay."""
        below = self._first_order(decay, "barrier")
        low, high = np.asarray(self._saddle(below)), np.asarray(self._minimum(below))
        p = self._best * self._top * np.exp(self.depth * np.stack([low, high]))
        apart = self._above_origin(p[0]) - self._above_origin(p[1])
        # Close to the end the two energies agree to third order in the distance, so that their difference loses digits:
        # integrate -E'(w) dw there, with dw = w dz and -E'(w) = D w (decay(p) - decay).
        half = np.minimum((high - low) / 2, 1)[..., None]
        z = low[..., None] + half * (1 + _NODES)
        excess = np.exp(2 * z) * np.expm1(_tilt(self.depth, z) + below[..., None])
        scale = self.depth * self.critical_decay() * self._width**2
        near = scale * np.exp(-below) * (half * _WEIGHTS * excess).sum(-1)
        return plain(np.where(below < _CLOSE, near, apart))

    def saddle_curvature(self, decay: Numbers) -> Any:
        """mu > 0, where -mu is the saddle's one negative Hessian eigenvalue: (D-2) decay - D w^(2D-2).

        In a chain of D scalars the other D - 1 are 2 decay.
        """
        z = self._saddle(self._first_order(decay, "saddle"))
        steepest = 2 * (self.depth - 1) * self.variance * self._width ** (2 * self.depth - 2)
        return plain(-steepest * np.exp((self.depth - 2) * z) * np.expm1(self.depth * z))

    def loop_area(self, lowest: float = 0.0) -> float:
        """The area of the hysteresis loop: the integral of p d(decay) from ``lowest`` to the critical decay.

        On the way up the mode stays in the learned state, on the way down at 0, which has no spinodal. The area is
        0.338303 s^(7/3) at depth 3, and 0 at depth 1 and 2, where both ways are equal. ``lowest`` is the smallest decay
        of the sweep.
        """
        start = one_number(lowest, "lowest decay")
        require(np.asarray(start), np.asarray(start >= 0), "lowest decay", "zero or more")
        if self.depth < 3:
            return 0.0
        a = self._power
        ends = np.array([self.minimum_product(start) / self._best if start > 0 else 1.0, self._top])
        under = ends ** (1 + a) / (1 + a) - ends ** (2 + a) / (2 + a)  # the integral of (1 - p) p^a
        corners = ends * (1 - ends) * ends**a
        return float(self._best * self._unit * (corners[1] - corners[0] + under[0] - under[1]))

    # Times.

    def kramers_time(self, decay: Numbers, temperature: Numbers) -> Any:
        """The mean time for a chain of D scalars to leave the origin under d theta = -grad E dt + sqrt(2T) dW.

        2 pi / (2^(D-1) mu) sqrt(mu (2 decay)^(D-1) / decay^D) exp(barrier_up / T): the formula of Kramers and Langer,
        with 2^(D-1) saddles that are equivalent by sign changes. It is valid for T well below the barrier (simulated
        chains take 1.0 to 1.15 times as long for barrier/T from 2 to 6). Time is steps times the learning rate.
        ``decay`` has to be less than the critical one; inf where the time overflows. The entropic correction of the
        paper has the wrong sign, and no prefactor independent of T can change the slope of ln(time) over 1/T.
        """
        decay, temperature = as_positive(decay, "decay"), as_positive(temperature, "temperature")
        require(
            decay,
            self._first_order(decay, "saddle") > 0,
            "decay",
            f"less than the critical decay {self.critical_decay():.10g}, where the saddle turns flat",
        )
        mu, D = np.asarray(self.saddle_curvature(decay)), self.depth
        with np.errstate(over="ignore"):
            attempts = 2 * np.pi / (2.0 ** (D - 1) * np.sqrt(mu)) * np.sqrt(2.0 ** (D - 1) / decay)
            return plain(attempts * np.exp(np.asarray(self.barrier_up(decay)) / temperature))

    def plateau_time(self, decay: Numbers, w0: Numbers) -> Any:
        """How long gradient flow, with all weights initially equal to a small ``w0``, stays on the plateau.

        -ln(1 - decay / (s w0^(D-2))) / ((D-2) decay), the time in which w' = s w^(D-1) - decay w blows up: right to
        leading order in small w0. inf where the full flow never learns: w0 up to the saddle, or decay past critical.
        """
        self._needs(3, "plateau")
        decay, w0 = np.broadcast_arrays(as_positive(decay, "decay"), as_positive(w0, "w0"))
        apart = np.log(self.critical_decay() / decay)
        saddle = self._width * np.exp(self._saddle(np.maximum(apart, 0)))
        leaves = (apart >= 0) & (w0 > saddle)
        safe = np.where(leaves, decay / self.signal / np.where(leaves, w0, 1.0) ** (self.depth - 2), 0.0)
        return plain(np.where(leaves, -np.log1p(-safe) / ((self.depth - 2) * decay), np.inf))

    def growth_decay(self, w: Numbers) -> Any:
        """The decay below which weights w > 0 grow, and above which they shrink: (s - v w^D) w^(D-2).

        It is the decay at which w is the saddle or the learned state; from depth 3 on its maximum over w is the
        critical decay. Negative where w^D exceeds s/v.
        """
        w = as_positive(w, "w")
        with np.errstate(over="ignore"):
            return plain((self.signal - self.variance * w**self.depth) * w ** (self.depth - 2.0))

    def learning_time(self, decay: float, start: float, end: float) -> float:
        """How long gradient flow at a constant decay (0 or more) takes from all weights ``start`` to ``end`` > start.

        The integral of dw / (w (growth_decay(w) - decay)), by quadrature to 1e-9 relative; inf where the flow does not
        arrive. Steps of gradient descent are this time over a small learning rate.
        """
        decay, start, end = one_number(decay, "decay"), positive_number(start, "start"), positive_number(end, "end")
        require(np.asarray(decay), np.asarray(decay >= 0), "decay", "zero or more")
        require(np.asarray(end), np.asarray(end > start), "end", f"more than the start, {start:.10g}")
        # growth_decay has one maximum, so that it is least at one of the ends.
        if min(self.growth_decay(start), self.growth_decay(end)) <= decay:
            return float(np.inf)

        def pace(z: float) -> float:
            return 1 / (float(self.growth_decay(np.exp(z))) - decay)

        low, high = np.log(start), np.log(end)
        return float(scipy.integrate.quad(pace, low, high, epsabs=0, epsrel=1e-10, limit=500)[0])

    def descent_slope(self, decay: Numbers, residual: float | None = None) -> Any:
        """The Arrhenius slope d ln(time) / d(batch/lr) of losing the learned state under pure SGD noise.

        Gaussian inputs, fresh samples; the gradients of all D weights carry one noise, w^(D-1) (y - p x) x, so that
        T(w) = lr/batch D/2 w^(2D-2) [r + 2 (s-p)^2] and the slope is the integral of |E'| dw / (T batch/lr) from the
        saddle to the minimum. r = ``residual`` is the variance of the targets that x does not explain, 1 - s^2 for
        targets of unit variance; signals above 1 need it given. By quadrature, to 1e-10 relative. (The science has
        depth 3; other depths follow by the same derivation.) Since T vanishes at 0 as w^(2D-2), the way up has no such
        slope: pure SGD does not leave a converged trap.
        """
        below = self._first_order(decay, "barrier")
        v, s, D = self.variance, self._best, self.depth
        r = 1 - self.signal * s if residual is None else one_number(residual, "residual")
        if r < 0:
            raise InputError(
                f"residual variance {r:.6g} (signal {self.signal:.6g}, variance {v:.6g})",
                expected="zero or more",
                hint="residual=, the variance of the targets that the inputs do not explain",
            )

        def slope(below: float, low: float, high: float) -> float:
            def integrand(z: float) -> float:
                w, p = self._width * np.exp(z), s * self._top * np.exp(D * z)
                excess = decay_end * np.exp(-below) * np.expm1(_tilt(D, z) + below)
                return float(2 * w ** (4 - 2 * D) * excess / (v * r + 2 * v * v * (s - p) ** 2))

            return (
                float(scipy.integrate.quad(integrand, low, high, epsabs=0, epsrel=1e-11, limit=500)[0])
                if high > low
                else 0.0
            )

        decay_end = self.critical_decay()
        return plain(elementwise(slope, below, self._saddle(below), self._minimum(below)))

    # In units of the best product s/v and of v (s/v)^(2-k): (1 - p) p^(1-k) = decay. p = top exp(D z), z = ln(w / w_c).

    @property
    def _power(self) -> float:
        return 1 - 2 / self.depth

    @property
    def _best(self) -> float:
        return self.signal / self.variance

    @property
    def _unit(self) -> float:
        return float(self.variance * self._best ** (1 + self._power))

    @property
    def _end(self) -> np.longdouble:
        """The critical decay, more exact than a float where the machine can: branches end in a square root."""
        D, v = np.longdouble(self.depth), np.longdouble(self.variance)
        power, top = 1 - 2 / D, (D - 2) / (2 * D - 2)
        return v * (self.signal / v) ** (1 + power) * (1 - top) * top**power

    @property
    def _top(self) -> float:
        return (self.depth - 2) / (2 * self.depth - 2)

    @property
    def _width(self) -> float:
        return float((self._best * self._top) ** (1 / self.depth))

    def _above_origin(self, p: Scalars) -> Scalars:
        """E - E(0) of a stationary state with product p, in which decay w^2 = v (s/v - p) p."""
        return self.variance * p * ((self.depth - 2) * self._best - (self.depth - 1) * p) / 2

    def _saddle(self, below: Scalars) -> Scalars:
        """z <= 0 of the saddle, for ln(critical decay / decay) = below."""
        near = -np.sqrt(2 * below / self._bend)
        return _newton(self.depth, below, np.where(below < 0.5, near, -below / (self.depth - 2)))

    def _minimum(self, below: Scalars) -> Scalars:
        """z >= 0 of the learned state; both guesses lie above it, from where Newton's steps fall monotonically."""
        near = np.sqrt(2 * below / self._bend)
        decay = float(self._end) / self._unit * np.exp(-below)
        return _newton(self.depth, below, np.minimum(near, (np.log1p(-decay) - np.log(self._top)) / self.depth))

    @property
    def _bend(self) -> float:
        """Minus the second derivative of the tilt at z = 0."""
        odds = self._top / (1 - self._top)
        return self.depth**2 * odds * (1 + odds)

    def _needs(self, depth: int, what: str) -> None:
        if self.depth < depth:
            raise InputError(
                f"a mode of depth {self.depth} has no {what}", expected=f"depth of at least {depth}, in weight matrices"
            )

    def _first_order(self, decay: Numbers, what: str) -> Array:
        """ln(critical decay / decay), zero or more, or the error that there is no such state."""
        self._needs(3, what)
        decay, end = as_positive(decay, "decay"), self._end
        require(decay, decay <= end * (1 + _SLACK), "decay", f"at most the critical decay {end:.10g} for a {what}")
        near = np.asarray(np.maximum((end - decay) / end, 0), dtype=np.float64)
        near = np.where(decay == float(end), 0.0, near)
        return np.where(near < 0.5, -np.log1p(-np.minimum(near, 0.5)), np.log(float(end) / decay))


def _tilt(depth: int, z: Any) -> Any:
    """ln(decay(p) / critical decay) at p = top exp(depth z): a concave function, 0 and flat at z = 0."""
    odds = (depth - 2) / depth  # top / (1 - top)
    return (depth - 2) * z + np.log1p(-odds * np.expm1(depth * z))


def _newton(depth: int, below: Scalars, z: Scalars) -> Scalars:
    """The root of tilt(z) = -below on the side of 0 on which z starts."""
    odds = (depth - 2) / depth
    for _ in range(100):
        growth = np.expm1(depth * z)
        slope = -(depth - 2) * (1 + odds) * growth / (1 - odds * growth)
        flat = slope == 0
        step = np.where(flat, 0.0, (_tilt(depth, z) + below) / np.where(flat, 1.0, slope))
        z = z - step
        if np.all(np.abs(step) <= np.maximum(1e-12 * np.abs(z), 4e-15)):  # the next step would be rounding
            break
    return z
