"""Learning coefficients along a sweep of weight decay on deep linear networks: of three losses at the same weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float

from edgescope.errors import NotKnownError
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.experiments.phases.sweeps import LEARNED
from edgescope.linalg import spectrum
from edgescope.losses import half_mse, supervised
from edgescope.measures import Reading
from edgescope.objective import Objective
from edgescope.phases.chain_options import ChainOptions
from edgescope.phases.learning_coefficient import local_coefficient
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import Nets, balanced_nets, end_to_end, simulate
from edgescope.theory.deep_linear import Mode
from edgescope.theory.reduced_rank import Singularity, deep_linear, deep_linear_with_decay

WITH_DECAY: Final = "loss with decay"
"""The loss that is trained: the network is at a minimum of it."""

OWN_OUTPUTS: Final = "own outputs as targets"
"""The loss without decay whose targets are what the network computes: the weights are a minimum of it, too."""

WITHOUT_DECAY: Final = "loss without decay"
"""The loss of the targets without decay, of which the weights are no minimum."""

LOWEST, BEFORE, AFTER = 0.5, 0.97, 1.05
"""The first decay of a sweep over the critical one of the weakest mode; decays beside a critical one, over it."""


@dataclass(frozen=True)
class CoefficientPoint:
    """One loss at one decay, on the way up or down."""

    decay: float
    down: bool
    loss: str


@dataclass(frozen=True)
class SweptNetwork:
    """A linear network, ``widths`` from inputs to outputs, for targets with these ``signals``, strongest first."""

    widths: tuple[int, ...]
    signals: tuple[float, ...]

    @property
    def modes(self) -> list[Mode]:
        """The modes in closed form."""
        return [Mode(len(self.widths) - 1, signal) for signal in self.signals]

    def rising(self, each: int) -> list[float]:
        """``each`` decays at every rank, evenly up to 0.97 of the critical decay, and one at rank 0."""
        ends = sorted(float(mode.critical_decay()) for mode in self.modes)
        starts = [LOWEST * ends[0], *(AFTER * end for end in ends[:-1])]
        found = [float(d) for a, b in zip(starts, ends, strict=True) for d in np.linspace(a, BEFORE * b, each)]
        return [*found, AFTER * ends[-1]]

    def target(self) -> Float[np.ndarray, "m n"]:
        """The map to learn."""
        found = np.zeros((self.widths[-1], self.widths[0]))
        found[range(len(self.signals)), range(len(self.signals))] = self.signals
        return found

    def points(self, each: int, without: int, down: int = 1) -> tuple[CoefficientPoint, ...]:
        """The points of a sweep: up with ``each`` decays at every rank, and on the way down at the ``down`` lowest.

        The loss without decay is taken at ``without`` decays of the highest rank, the last ones before a mode is lost.
        """
        up = self.rising(each)
        found = [
            CoefficientPoint(decay, falling, loss)
            for falling, decays in ((False, up), (True, up[:down][::-1]))
            for decay in decays
            for loss in (WITH_DECAY, OWN_OUTPUTS)
        ]
        return (*found, *(CoefficientPoint(decay, False, WITHOUT_DECAY) for decay in up[each - without : each]))


@dataclass(frozen=True)
class CoefficientSweepTask(PiecesTask[CoefficientPoint]):
    """Learning coefficients of one network that is swept up and down by gradient descent on the population loss."""

    network: SweptNetwork
    options: ChainOptions
    each: int
    dwell: int = 20_000
    lr: float = 0.1

    def describe(self) -> dict[str, Any]:
        o, widths = self.options, "-".join(map(str, self.network.widths))
        return {
            "data": f"population, signals {self.network.signals}",
            "model": f"linear {widths}",
            "lr": self.lr,
            "chains": f"{o.chains} of {o.burn_in:g} + {o.times:g} relaxation times, gamma {o.gamma:g}, n {o.n}",
        }

    def simulate(self, piece: CoefficientPoint, seed: int) -> list[Reading]:
        """The coefficient of one loss, named by it: "value", "low" to "high", and "closed", its closed form.

        Beside these are the rank, the strength of each mode, and what the estimate says of itself. A note says why
        there is no value.
        """
        nets = self._swept(piece)
        found = end_to_end(nets, self.network.widths)[0]
        strengths = np.diagonal(found)[: len(self.network.signals)]
        rank = int((strengths > LEARNED * np.array(self.network.signals)).sum())
        values = {"decay": piece.decay, "down": float(piece.down), "rank": float(rank)}
        values |= {f"strength/{k}": float(p) for k, p in enumerate(strengths, start=1)}
        values |= {f"critical/{k}": float(mode.critical_decay()) for k, mode in enumerate(self.network.modes, start=1)}
        exact = closed_form(self.network.widths, rank, piece.loss)
        values |= {"closed": exact.coefficient, "multiplicity": float(exact.multiplicity)}
        objective = objective_at(nets, self.network, piece)
        options = ChainOptions(**(vars(self.options) | {"seed": seed}))
        try:
            estimate = local_coefficient(objective, options, spectrum(objective, method="exact"))
        except NotKnownError as error:
            return [Reading(piece.loss, values, note=str(error))]
        values |= {
            "value": estimate.value, "low": estimate.interval.low, "high": estimate.interval.high,
            "quadratic": estimate.quadratic or 0.0, "above minimum": estimate.above_minimum,
            "steps": float(estimate.burn_in + estimate.steps), "r-hat": estimate.r_hat,
            "r-hat of distance": estimate.r_hat_distance,
        }  # fmt: skip
        kept = {name: value for name, value in values.items() if math.isfinite(value)}
        return [Reading(piece.loss, kept, note=estimate.reason, cost=estimate.cost)]

    def _swept(self, point: CoefficientPoint) -> Nets:
        """The network at this decay, from the learned state of the lowest one: a sweep is short beside the chains."""
        network, up = self.network, self.network.rising(self.each)
        start = network.target()
        for k, mode in enumerate(network.modes):
            start[k, k] = float(mode.minimum_product(up[0]))
        nets = balanced_nets(start, network.widths)
        visited = [decay for decay in up if point.down or decay <= point.decay]
        visited += [decay for decay in up[-2::-1] if point.down and decay >= point.decay]
        for decay in visited:
            nets = simulate(
                Gaussian(network.target()), nets, network.widths, decay=decay, lr=self.lr, steps=self.dwell, threads=1
            ).nets
        return nets


def closed_form(widths: Sequence[int], rank: int, loss: str) -> Singularity:
    """The learning coefficient of this loss as n grows at weights of this rank, if they are a minimum of it."""
    return deep_linear_with_decay(widths, rank) if loss == WITH_DECAY else deep_linear(widths, rank)


def objective_at(nets: Nets, network: SweptNetwork, point: CoefficientPoint) -> Objective:
    """The loss of a point, at the weights of the first of ``nets``: ½|W - C|², and with decay its term.

    Inputs are orthogonal, so that this is the mean loss of infinitely many samples, less that of the noise of variance
    1 whose log likelihood it is.
    """
    widths = network.widths
    layers = [torch.nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in pairwise(widths)]
    with torch.no_grad():
        for number, layer in enumerate(layers):
            outputs, inputs = layer.weight.shape
            layer.weight.copy_(torch.from_numpy(nets[0, number, :outputs, :inputs].copy()))
    target = end_to_end(nets, widths)[0] if point.loss == OWN_OUTPUTS else network.target()
    scale = math.sqrt(widths[0])
    data = scale * torch.eye(widths[0], dtype=torch.float64), scale * torch.from_numpy(target.T.copy())
    decay = point.decay if point.loss == WITH_DECAY else 0.0
    return Objective(torch.nn.Sequential(*layers), supervised(half_mse), data, l2=decay, path="kept", threads=1)
