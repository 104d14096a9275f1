"""The null by other means: the paper's protocol by automatic differentiation, with biases and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from edgescope.losses import half_mse, supervised
from edgescope.measures import Reading
from edgescope.studies.phases.escapes import SIZES, exact_samples, second
from edgescope.studies.phases.pieces import PiecesTask
from edgescope.training import Member, Stack


@dataclass(frozen=True)
class BiasesTask(PiecesTask):
    """Networks of torch's layers, trapped by mini-batches of 512 whitened samples, then released to a lower decay."""

    replicas: int
    held: int
    released: int
    trap: float = 0.38
    decay: float = 0.15
    lr: float = 0.08
    batch: int = 64
    signals: tuple[float, float] = (0.9, 0.65)

    def pieces(self) -> Sequence[bool]:
        return (False, True)

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
