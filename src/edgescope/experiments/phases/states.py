"""How many states of deep linear networks are metastable, and which is lowest, by descent from many starts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.experiments.phases.linear_network import add_jitter
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import balanced_nets, end_to_end, simulate
from edgescope.theory.deep_linear import Mode, PhaseDiagram


@dataclass(frozen=True)
class ModeSet:
    """Modes of these signals, on inputs of these variances."""

    signals: tuple[float, ...]
    variances: tuple[float, ...]


PAPER_MODES, PAPER_DECAY = ModeSet((0.9, 0.8), (1.0, 1.0)), 0.32
"""The paper's own modes, and the decay at which it compares their states."""

MODE_SETS = (
    PAPER_MODES,
    ModeSet((1.0, 0.7, 0.45), (1.0, 1.0, 1.0)),
    ModeSet((0.9, 0.6), (1.5, 0.6)),
)


@dataclass(frozen=True)
class StatesTask(PiecesTask[ModeSet]):
    """How many states are metastable: descent from every set of learned modes, over decays, on two kinds of input."""

    decays: int
    steps: int
    lr: float = 0.1
    width: int = 6

    def describe(self) -> dict[str, Any]:
        return {"data": "population, 2 and 3 modes, two covariances", "model": "linear, depth 3", "lr": self.lr}

    def simulate(self, piece: ModeSet, seed: int) -> list[Reading]:
        """Arrays over decays: "measured" and "theory" counts, "rank" of the lowest state measured, "theory_rank";
        "paper/rank R" are the losses at its decay of the states of the paper's two modes."""
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
        if piece == PAPER_MODES:
            at = self._states(data, signals, PAPER_DECAY, seed)
            values |= {f"paper/rank {rank}": min(e for r, e in at if r == rank) for rank in {r for r, _ in at}}
        return [Reading("states", values, arrays=arrays, note=f"signals {signals}, variances {variances}")]

    def _states(self, data: Gaussian, signals: Sequence[float], decay: float, seed: int) -> list[tuple[int, float]]:
        """Rank and regularised loss of each different end of descent from all sets of modes, a little jittered."""
        size, sizes = len(signals), (len(signals), self.width, self.width, len(signals))
        starts = [np.array(on, dtype=float) for on in itertools.product((0, 1), repeat=size)]
        best = np.diag(data.correlation) / np.diag(data.covariance)
        nets = np.concatenate([balanced_nets(np.diag(best * on), sizes) for on in starts])
        add_jitter(nets, sizes, 1e-3, np.random.default_rng(seed))
        ends = simulate(data, nets, sizes, decay=decay, lr=self.lr, steps=self.steps).nets
        maps = end_to_end(ends, sizes)
        losses = data.loss(maps) + decay / 2 * (ends**2).sum((1, 2, 3))
        kept: dict[tuple[bool, ...], float] = {}
        for end, loss in zip(maps, losses, strict=True):
            on = tuple(bool(p > 0.1 * b) for p, b in zip(np.diag(end), best, strict=True))
            kept[on] = min(float(loss), kept.get(on, np.inf))
        return [(sum(on), loss) for on, loss in kept.items()]
