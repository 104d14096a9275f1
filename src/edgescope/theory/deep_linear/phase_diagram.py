"""The minima of the regularised loss of a deep linear network with several modes, at each weight decay."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.theory.arguments import Array, Numbers, as_numbers, as_positive, plain, positive_number, whole_number
from edgescope.theory.deep_linear.mode import Mode
from edgescope.theory.deep_linear.search import height, search

_TIE = 1e-10  # relative
_MAX_MODES = 14  # whose subsets are tested one by one


@dataclass(frozen=True)
class State:
    """A minimum of the regularised loss: end-to-end ``map`` (outputs, inputs), rank, and energy minus that of map 0."""

    rank: int
    energy: float
    map: Float[Array, "m n"]


class PhaseDiagram:
    """The minima of 1/2 E||y - W_D...W_1 x||^2 + decay/2 sum ||W_l||^2 over networks wide enough for every rank.

    ``signals`` is the correlation E y x^T (m, n), or its k singular values. ``covariance`` is E x x^T: a number v for v
    times identity, or a matrix (n, n); with singular values it is written in the basis of their right singular vectors,
    (k, k), or (k,) if diagonal there.

    Minima are counted as end-to-end maps, not as weights: signs and rotations of hidden layers do not count. Networks
    of depth 1 and 2 have one minimum at every decay. From depth 3 on, with covariance v times identity, the learned
    modes are those of largest signal, and the states have ranks 0 to R, where R is the number of modes whose critical
    decay is above this one. (A state in which a weaker mode is learned and a stronger one is not is a saddle: the two
    rotate into each other.)

    With different input variances that do not couple the modes, all subsets of modes are tested, exactly: a learned
    mode i and an unlearned mode j are stable against each other iff s_i (s_i + (v_j - v_i) p_i) > s_j^2; two learned
    modes always are. Both orders of learning can then be minima at the same decay. Where the covariance couples the
    modes there is no closed form: minima are found by numerical minimisation from truncations of the solution without
    decay, and their number is a lower bound. (Derived here; the paper has the identity as covariance. The tests compare
    with Hessians of whole networks.)

    Raises :class:`InputError` for shapes that do not fit, a covariance that is not positive definite, and more than 14
    modes of different variances. Source: Ersoy and Wiesner 2026, arXiv 2606.17120.
    """

    def __init__(self, depth: int, signals: Numbers, covariance: Numbers = 1.0) -> None:
        self.depth = whole_number(depth, "depth", 1)
        given = as_numbers(signals, "signals")
        if given.ndim not in (1, 2) or given.size == 0:
            raise InputError(f"signals of shape {given.shape}", expected="singular values (k,) or a matrix (m, n)")
        if given.ndim == 1 and given.min() < 0:
            raise InputError(f"a singular value of {given.min():g}", expected="signals of zero or more")
        self.correlation = np.diag(given) if given.ndim == 1 else given
        self.covariance = _as_covariance(covariance, self.correlation.shape[1])
        left, signal, right = _aligned(self.correlation, self.covariance)
        inner = right @ self.covariance @ right.T
        mixed = np.abs(inner - np.diag(np.diag(inner)))[signal > 0]
        self._left, self._right = left[:, signal > 0], right[signal > 0]
        self.separable = bool(mixed.max(initial=0) <= _TIE * inner.max())
        """Whether the modes are not coupled: the covariance is diagonal in their basis."""
        self._signals, self._variances = signal[signal > 0], np.diag(inner)[signal > 0]
        self._alike = bool(np.all(np.abs(self._variances - self._variances[:1]) <= _TIE * self._variances))

    def modes(self) -> tuple[Mode, ...]:
        """The modes of positive signal, strongest first; :class:`InputError` where the covariance couples them."""
        if not self.separable:
            raise InputError("the covariance couples the modes", expected="one that is diagonal in their basis")
        return tuple(Mode(self.depth, s, v) for s, v in zip(self._signals, self._variances, strict=True))

    def critical_decays(self) -> Float[Array, " k"]:
        """The decay up to which each mode, by itself, has a learned state; strongest mode first."""
        return np.array([mode.critical_decay() for mode in self.modes()])

    def coexistence_decays(self) -> Float[Array, " k"]:
        """The decay at which the learned and the unlearned state of each mode have equal energy; strongest first."""
        return np.array([mode.coexistence_decay() for mode in self.modes()])

    def metastable_states(self, decay: Numbers) -> Any:
        """The number of minima at each decay, an int or an array of them."""
        decays = as_positive(decay, "decay")
        if self.depth < 3:
            counts = np.ones(decays.shape, dtype=np.int64)
        elif self.separable and self._alike:
            counts = 1 + (decays[..., None] < self.critical_decays()).sum(-1)
        else:
            flat = [len(self.states(value)) for value in decays.ravel().tolist()]
            counts = np.array(flat, dtype=np.int64).reshape(decays.shape)
        return plain(counts)

    def states(self, decay: float) -> tuple[State, ...]:
        """The minima at one decay, in order of energy."""
        decay = positive_number(decay, "decay")
        if self.separable:
            maps = [(self._left[:, on] * p[on]) @ self._right[on] for on, p in self._learned(decay)]
        else:
            maps = search(self.depth, self.correlation, self.covariance, decay)
        found = [
            State(
                rank=int(np.linalg.matrix_rank(map_, tol=1e-9 * np.abs(map_).max())) if np.any(map_) else 0,
                energy=height(self.depth, self.correlation, self.covariance, decay, map_),
                map=map_,
            )
            for map_ in maps
        ]
        return tuple(sorted(found, key=lambda state: state.energy))

    def rank(self, decay: Numbers) -> Any:
        """The rank of the global minimum at each decay."""
        decays = as_positive(decay, "decay")
        flat = [self.states(value)[0].rank for value in decays.ravel().tolist()]
        return plain(np.array(flat, dtype=np.int64).reshape(decays.shape))

    def _learned(self, decay: float) -> list[tuple[list[int], Float[Array, " k"]]]:
        """The stable sets of learned modes, each with the products of all modes."""
        modes = self.modes()
        if self.depth < 3:
            return [(list(range(len(modes))), np.array([mode.minimum_product(decay) for mode in modes]))]
        able = [i for i, mode in enumerate(modes) if decay < mode.critical_decay()]
        if len(able) > _MAX_MODES and not self._alike:
            raise InputError(f"{len(able)} modes of different variances", expected=f"at most {_MAX_MODES}")
        p = np.zeros(len(modes))
        p[able] = [modes[i].minimum_product(decay) for i in able]
        if self._alike:
            return [(able[:rank], p) for rank in range(len(able) + 1)]
        subsets = itertools.chain.from_iterable(itertools.combinations(able, r) for r in range(len(able) + 1))
        return [(list(on), p) for on in subsets if self._stable(on, p)]

    def _stable(self, on: tuple[int, ...], p: Float[Array, " k"]) -> bool:
        s, v = self._signals, self._variances
        off = [j for j in range(len(s)) if j not in on]
        for i, j in itertools.product(on, off):
            margin = s[i] * (s[i] + (v[j] - v[i]) * p[i]) - s[j] ** 2
            if margin < -_TIE * s[i] ** 2 or (abs(margin) <= _TIE * s[i] ** 2 and j < i):
                return False
        return True


def _as_covariance(covariance: Numbers, inputs: int) -> Float[Array, "n n"]:
    given = as_numbers(covariance, "covariance")
    if given.shape not in ((), (inputs,), (inputs, inputs)):
        raise InputError(
            f"covariance of shape {given.shape}", expected=f"a number, ({inputs},) or ({inputs}, {inputs})"
        )
    matrix = given if given.ndim == 2 else np.diag(np.broadcast_to(given, inputs))
    symmetric = np.allclose(matrix, matrix.T, rtol=0, atol=1e-12 * np.abs(matrix).max())
    if not symmetric or np.linalg.eigvalsh(matrix)[0] <= 1e-12 * np.abs(matrix).max():
        raise InputError("the covariance is not symmetric and positive definite", expected="E x x^T")
    return matrix


def _aligned(C: Float[Array, "m n"], covariance: Float[Array, "n n"]) -> tuple[Array, Array, Array]:
    """Singular vectors and values of C, all n right ones; among equal values those that diagonalise the covariance."""
    n = C.shape[1]
    left, values, right = np.linalg.svd(np.vstack([C, np.zeros((max(0, n - len(C)), n))]))
    left = left[:, :n]
    values = np.where(values > _TIE * values.max(initial=0), values, 0.0)
    for value in np.unique(values):
        group = np.flatnonzero(np.abs(values - value) <= _TIE * values.max(initial=0))
        turn = np.linalg.eigh(right[group] @ covariance @ right[group].T)[1].T
        left[:, group], right[group] = left[:, group] @ turn.T, turn @ right[group]
    return left[: len(C)], values, right
