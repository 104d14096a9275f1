"""Weight decay up and down on deep linear networks: hysteresis loops, numbers of states, finite samples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from edgescope.measures import Reading
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import balanced_nets, end_to_end, simulate
from edgescope.studies.phases.pieces import PiecesTask
from edgescope.theory.deep_linear import Mode, PhaseDiagram

SIGNALS = (1.0, 0.8, 0.6, 0.4)
LEARNED = 0.2
"""A mode counts as learned while its overlap is above this share of its signal."""

LOWEST, HIGHEST = 0.01, 0.52
NOISY, FASTER = "Langevin", "Langevin, 5 times as fast"


@dataclass(frozen=True)
class Sweep:
    """One sweep: ``jitter`` is added to every weight at each decay, ``temperature`` is that of Langevin noise."""

    name: str
    depth: int
    steps: int
    jitter: float = 0.0
    temperature: float | None = None


@dataclass(frozen=True)
class SweepTask(PiecesTask[Sweep]):
    """Sweeps of the population loss of four modes, up and down, every one a piece."""

    decays: int
    lr: float = 0.1
    width: int = 10

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signals {SIGNALS}", "model": f"linear, width {self.width}", "lr": self.lr}

    def simulate(self, piece: Sweep, seed: int) -> list[Reading]:
        """ "collapse/K" and "next/K": last decay at which mode K was learned on the way up, and the one after;
        "relearned/K": the decay at which it was learned again on the way down (NaN: never); "area/K"."""
        decays = np.linspace(LOWEST, HIGHEST, self.decays)
        sizes = (len(SIGNALS), *[self.width] * (piece.depth - 1), len(SIGNALS))
        nets = balanced_nets(np.diag([Mode(piece.depth, s).minimum_product(decays[0]) for s in SIGNALS]), sizes)
        rng = np.random.default_rng(seed)
        overlaps = []
        for number, decay in enumerate([*decays, *decays[::-1]]):
            for layer, (rows, columns) in enumerate(zip(sizes[1:], sizes, strict=False)):
                nets[:, layer, :rows, :columns] += piece.jitter * rng.standard_normal((rows, columns))
            nets = simulate(
                Gaussian(np.diag(SIGNALS)), nets, sizes, decay=decay, lr=self.lr, steps=piece.steps,
                temperature=piece.temperature, seed=1000 * seed + number,
            ).nets  # fmt: skip
            overlaps.append(np.diagonal(end_to_end(nets, sizes)[0]).copy())
        up, down = np.array(overlaps[: len(decays)]), np.array(overlaps[len(decays) :])[::-1]
        values: dict[str, float] = {"depth": piece.depth}
        for k, signal in enumerate(SIGNALS):
            learned, again = up[:, k] > LEARNED * signal, down[:, k] > LEARNED * signal
            last = int(np.flatnonzero(learned)[-1]) if learned.any() else 0
            values |= {
                f"collapse/{signal:g}": float(decays[last]),
                f"next/{signal:g}": float(decays[min(last + 1, len(decays) - 1)]),
                f"relearned/{signal:g}": float(decays[again].max()) if again.any() else np.nan,
                f"area/{signal:g}": float(np.trapezoid(up[:, k] - down[:, k], decays)),
            }
        arrays = {"decays": decays, "up": up, "down": down}
        return [Reading("sweep", {k: v for k, v in values.items() if np.isfinite(v)}, arrays=arrays, note=piece.name)]


@dataclass(frozen=True)
class Problem:
    """Modes of these signals, on inputs of these variances."""

    signals: tuple[float, ...]
    variances: tuple[float, ...]


PROBLEMS = (
    Problem((0.9, 0.8), (1.0, 1.0)),
    Problem((1.0, 0.7, 0.45), (1.0, 1.0, 1.0)),
    Problem((0.9, 0.6), (1.5, 0.6)),
)


@dataclass(frozen=True)
class StatesTask(PiecesTask[Problem]):
    """How many states are metastable: descent from every set of learned modes, over decays, on two kinds of input."""

    decays: int
    steps: int
    lr: float = 0.1
    width: int = 6

    def describe(self) -> dict[str, Any]:
        return {"data": "population, 2 and 3 modes, two covariances", "model": "linear, depth 3", "lr": self.lr}

    def simulate(self, piece: Problem, seed: int) -> list[Reading]:
        """Arrays over decays: "measured" and "theory" counts, "rank" of the lowest state measured, "theory_rank";
        "paper/rank R" are the losses at decay 0.32 of the states of the paper's two modes."""
        signals, variances = piece.signals, piece.variances
        size = len(signals)
        data = Gaussian(np.diag(signals), np.diag(variances), residual=np.zeros((size, size)))
        diagram = PhaseDiagram(3, signals, covariance=np.diag(variances))
        top = max(Mode(3, s, v).critical_decay() for s, v in zip(signals, variances, strict=True))
        decays = np.linspace(0.05, 1.1, self.decays) * top
        found = np.array([self._states(data, signals, float(decay), seed) for decay in decays], dtype=object)
        theory = np.asarray(diagram.metastable_states(decays))
        ranks = np.array([min(states, key=lambda s: s[1])[0] for states in found])
        arrays = {"decays": decays, "measured": np.array([len(states) for states in found]), "theory": theory}
        arrays |= {"rank": ranks, "theory_rank": np.asarray(diagram.rank(decays))}
        same = arrays["measured"] == theory
        values = {"agree": float(same.sum()), "of": float(len(decays))}
        if signals == (0.9, 0.8):
            at = self._states(data, signals, 0.32, seed)
            values |= {f"paper/rank {rank}": min(e for r, e in at if r == rank) for rank in {r for r, _ in at}}
        return [Reading("states", values, arrays=arrays, note=f"signals {signals}, variances {variances}")]

    def _states(self, data: Gaussian, signals: Sequence[float], decay: float, seed: int) -> list[tuple[int, float]]:
        """Rank and regularised loss of each different end of descent from all sets of modes, a little jittered."""
        size, sizes = len(signals), (len(signals), self.width, self.width, len(signals))
        starts = [np.array(on, dtype=float) for on in itertools.product((0, 1), repeat=size)]
        best = np.diag(data.correlation) / np.diag(data.covariance)
        nets = np.concatenate([balanced_nets(np.diag(best * on), sizes) for on in starts])
        rng = np.random.default_rng(seed)
        for layer, (rows, columns) in enumerate(zip(sizes[1:], sizes, strict=False)):
            nets[:, layer, :rows, :columns] += 1e-3 * rng.standard_normal((len(nets), rows, columns))
        ends = simulate(data, nets, sizes, decay=decay, lr=self.lr, steps=self.steps).nets
        maps = end_to_end(ends, sizes)
        losses = data.loss(maps) + decay / 2 * (ends**2).sum((1, 2, 3))
        kept: dict[tuple[bool, ...], float] = {}
        for end, loss in zip(maps, losses, strict=True):
            on = tuple(bool(p > 0.1 * b) for p, b in zip(np.diag(end), best, strict=True))
            kept[on] = min(float(loss), kept.get(on, np.inf))
        return [(sum(on), loss) for on, loss in kept.items()]


@dataclass(frozen=True)
class SamplesTask(PiecesTask[int]):
    """The paper's first claim: the decay at which rank is lost on 512 samples, over several draws of them."""

    steps: int
    samples: int = 512
    lr: float = 0.1
    signals: tuple[float, float] = (0.9, 0.8)

    def describe(self) -> dict[str, Any]:
        return {"data": f"{self.samples} samples, signals {self.signals}", "model": "linear 2-10-10-2", "lr": self.lr}

    def simulate(self, piece: int, seed: int) -> list[Reading]:
        """ "rank 1" and "rank 0": the first decay, in steps of 0.01, at which the rank was no higher."""
        sizes = (2, 10, 10, 2)
        population = Gaussian(np.diag(self.signals))
        data = population.draw(self.samples, seed=seed)
        nets = balanced_nets(data.correlation, sizes)
        found: dict[str, float] = {}
        for decay in np.arange(0.25, 0.55, 0.01):
            nets = simulate(data, nets, sizes, decay=float(decay), lr=self.lr, steps=self.steps, threads=1).nets
            rank = rank_of(end_to_end(nets, sizes)[0])
            for lost in (1, 0):
                if rank <= lost:
                    found.setdefault(f"rank {lost}", float(decay))
            if rank == 0:
                break
        return [Reading("samples", found)]


def rank_of(end_to_end_map: Float[np.ndarray, "m n"]) -> int:
    """Modes of a map that are learned."""
    return int((np.linalg.svd(end_to_end_map, compute_uv=False) > LEARNED * 0.8).sum())
