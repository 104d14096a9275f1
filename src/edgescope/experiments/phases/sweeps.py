"""Weight decay up and down on deep linear networks: hysteresis loops, and ranks on finite samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from edgescope.experiments.phases.linear_network import SIZES, add_jitter
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import balanced_nets, end_to_end, simulate
from edgescope.theory.deep_linear import Mode

SIGNALS = (1.0, 0.8, 0.6, 0.4)
LEARNED = 0.2
"""A mode counts as learned while its overlap is above this share of its signal."""

LOWEST, HIGHEST = 0.01, 0.52
NOISY, FASTER = "Langevin", "Langevin, 5 times as fast"


@dataclass(frozen=True)
class DecaySweep:
    """One sweep: ``jitter`` is added to every weight at each decay, ``temperature`` is that of Langevin noise."""

    name: str
    depth: int
    steps: int
    jitter: float = 0.0
    temperature: float | None = None


@dataclass(frozen=True)
class SweepTask(PiecesTask[DecaySweep]):
    """Sweeps of the population loss of four modes, up and down, every one a piece."""

    decays: int
    lr: float = 0.1
    width: int = 10

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signals {SIGNALS}", "model": f"linear, width {self.width}", "lr": self.lr}

    def simulate(self, piece: DecaySweep, seed: int) -> list[Reading]:
        """ "collapse/K" and "next/K": last decay at which mode K was learned on the way up, and the one after;
        "relearned/K": the decay at which it was learned again on the way down (NaN: never); "area/K"."""
        decays = np.linspace(LOWEST, HIGHEST, self.decays)
        sizes = (len(SIGNALS), *[self.width] * (piece.depth - 1), len(SIGNALS))
        nets = balanced_nets(np.diag([Mode(piece.depth, s).minimum_product(decays[0]) for s in SIGNALS]), sizes)
        rng = np.random.default_rng(seed)
        overlaps = []
        for number, decay in enumerate([*decays, *decays[::-1]]):
            add_jitter(nets, sizes, piece.jitter, rng)
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
        population = Gaussian(np.diag(self.signals))
        data = population.draw(self.samples, seed=seed)
        nets = balanced_nets(data.correlation, SIZES)
        found: dict[str, float] = {}
        for decay in np.arange(0.25, 0.55, 0.01):
            nets = simulate(data, nets, SIZES, decay=float(decay), lr=self.lr, steps=self.steps, threads=1).nets
            rank = rank_of(end_to_end(nets, SIZES)[0])
            for lost in (1, 0):
                if rank <= lost:
                    found.setdefault(f"rank {lost}", float(decay))
            if rank == 0:
                break
        return [Reading("samples", found)]


def rank_of(end_to_end_map: Float[np.ndarray, "m n"]) -> int:
    """Modes of a map that are learned."""
    return int((np.linalg.svd(end_to_end_map, compute_uv=False) > LEARNED * 0.8).sum())
