"""Networks trapped at a high decay and released to a lower one under mini-batches: does their noise lead out?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import nn

from edgescope.experiments.phases.linear_network import SIZES, second
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.losses import half_mse, supervised
from edgescope.measures import Reading
from edgescope.simulate.linear_data import Gaussian, Samples
from edgescope.simulate.linear_nets import balanced_nets, end_to_end, random_nets, simulate
from edgescope.theory.deep_linear import Mode
from edgescope.training import Member, Stack

BATCHES_AN_EPOCH: Final = 8
SAMPLES: Final = ("fresh", "whitened", "drawn")
"""What batches are of: ever new samples; 512 with the correlations of the population exactly; 512 as they come."""

BRIEF: Final = 1000
"""Epochs below which a trap has been held too briefly to be converged."""


@dataclass(frozen=True)
class Trial:
    """Networks trapped for ``held`` epochs, then released to ``decay``."""

    held: int
    decay: float
    samples: Literal["fresh", "whitened", "drawn"]


@dataclass(frozen=True)
class TrapTask(PiecesTask[Trial]):
    """The paper's protocol: trapped by mini-batch descent at decay ``trap``, then released for so many ``epochs``.

    ``rank`` is that of the trapped networks. They start from the learned state at decay 0.1, or from ``random``
    weights N(0, 1/width).
    """

    epochs: int
    replicas: int
    trap: float = 0.38
    rank: int = 1
    lr: float = 0.08
    batch: int = 64
    random: bool = False
    signals: tuple[float, float] = (0.9, 0.8)

    def describe(self) -> dict[str, Any]:
        data = f"signals {self.signals}, fresh or 512 samples"
        return {"data": data, "model": "linear 2-10-10-2", "lr": self.lr, "batch": self.batch, "trap": self.trap}

    def simulate(self, piece: Trial, seed: int) -> list[Reading]:
        """ "trapped": networks whose lost singular value is below 1e-3 after the trap; "escaped": those of them above
        0.3 at the end; "fall": its rate in the trap; arrays: lost singular values after the trap, at the end, and
        their median in the trap."""
        population = Gaussian(np.diag(self.signals))
        data: Gaussian | Samples = population
        if piece.samples != "fresh":
            whitened = piece.samples == "whitened"
            data = exact_samples(self.signals, 512, seed) if whitened else population.draw(512, seed=seed)
        start = np.diag([Mode(3, s).minimum_product(0.1) for s in self.signals])
        nets = (
            random_nets(SIZES, self.replicas, seed=seed) if self.random else balanced_nets(start, SIZES, self.replicas)
        )
        options: dict[str, Any] = {"lr": self.lr, "batch": self.batch}
        steps = BATCHES_AN_EPOCH * piece.held
        trap = simulate(data, nets, SIZES, decay=self.trap, steps=steps, every=BATCHES_AN_EPOCH, seed=seed, **options)
        before = self._lost(end_to_end(trap.nets, SIZES))
        steps = BATCHES_AN_EPOCH * self.epochs
        free = simulate(data, trap.nets, SIZES, decay=piece.decay, steps=steps, seed=seed + 500, **options)
        after = self._lost(end_to_end(free.nets, SIZES))
        fall = np.median(self._lost(trap.maps), axis=0)
        seen = (fall < 1e-3) & (fall > 1e-13)  # small against 1, large against rounding of the other mode
        slope = np.polyfit(trap.map_steps[seen] * self.lr, np.log(fall[seen]), 1)[0] if seen.sum() > 5 else np.nan
        trapped = before < 1e-3
        values = {
            "held": float(piece.held),
            "decay": piece.decay,
            "fixed": float(SAMPLES.index(piece.samples)),
            "trapped": float(trapped.sum()),
            "escaped": float((trapped & (after > 0.3)).sum()),
            "watched": float(trapped.sum() * steps * self.lr),
        }
        values |= {"fall": float(slope)} if np.isfinite(slope) else {}
        return [
            Reading("null", values, arrays={"before": before, "after": after, "fall": fall, "fall_at": trap.map_steps})
        ]

    def _lost(self, maps: np.ndarray) -> np.ndarray:
        """The first singular value that is lost in the trap."""
        return np.linalg.svd(maps, compute_uv=False)[..., self.rank]


@dataclass(frozen=True)
class BiasesTask(PiecesTask[bool]):
    """Networks of torch's layers, trapped by mini-batches of 512 whitened samples, then released to a lower decay."""

    replicas: int
    held: int
    released: int
    trap: float = 0.38
    decay: float = 0.15
    lr: float = 0.08
    batch: int = 64
    signals: tuple[float, float] = (0.9, 0.65)

    def describe(self) -> dict[str, Any]:
        data = f"512 whitened samples, signals {self.signals}"
        return {"data": data, "model": "linear 2-10-10-2, with biases and without", "lr": self.lr, "batch": self.batch}

    def simulate(self, piece: bool, seed: int) -> list[Reading]:
        """ "trapped": networks with a second singular value below 1e-3 after the trap, "escaped" those of them above
        0.3 at the end, "largest" the largest of all at the end; "held" and "released" are steps."""
        samples = exact_samples(self.signals, 512, seed)
        data = torch.tensor(samples.inputs), torch.tensor(samples.targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nets: list[nn.Module] = [
                nn.Sequential(*(nn.Linear(a, b, bias=piece) for a, b in pairwise(SIZES))).double()
                for _ in range(self.replicas)
            ]
        ends = []
        for steps, decay in ((self.held, self.trap), (self.released, self.decay)):
            members = [Member(self.lr, seed + number, 0.0, decay) for number in range(self.replicas)]
            stack = Stack(nets, supervised(half_mse), data, members, self.batch)
            for _ in range(steps):
                stack.step()
            inputs = torch.cat([torch.eye(2), torch.zeros(1, 2)]).double()
            outputs = stack.outputs(inputs)  # what zero gives is left out: it is the biases' alone
            ends.append(second((outputs[:, :2] - outputs[:, 2:]).numpy()))
            nets = [stack.model(number, into=net) for number, net in enumerate(nets)]
        trapped = ends[0] < 1e-3
        values = {
            "biases": float(piece),
            "held": float(self.held),
            "released": float(self.released),
            "trapped": float(trapped.sum()),
            "escaped": float((trapped & (ends[1] > 0.3)).sum()),
            "largest": float(np.max(ends[1][trapped], initial=0.0)),
        }
        return [Reading("biases", values)]


def exact_samples(signals: Sequence[float], count: int, seed: int) -> Samples:
    """Samples whose inputs are white and whose correlations are those of the population, exactly."""
    rng, size = np.random.default_rng(seed), len(signals)
    white = np.linalg.qr(rng.standard_normal((count, 2 * size)))[0] * count**0.5
    noise = np.sqrt(1 - np.square(signals))
    return Samples(white[:, :size], white[:, :size] * np.array(signals) + white[:, size:] * noise)
