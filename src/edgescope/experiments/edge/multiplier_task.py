"""One network trained with one learning rate, and with multiples of it by block that follow from their sharpness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from edgescope.linalg.blocks import block_eigenvalues
from edgescope.measures import Reading
from edgescope.measures.blocks import blocks_of
from edgescope.objective.modules import thread_count
from edgescope.progress import Progress
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep import PlannedRun, Tagged
from edgescope.training import Parts, RunConfig
from edgescope.training.gradients import FromBatches

POWERS: Final = {"1/λ": 1.0, "1/√λ": 0.5}
"""Rules by their names: the multiplier of a block is its sharpness to minus this power, of geometric mean 1."""

PLAIN: Final = "one rate"

PROBED_AFTER: Final = 0.1
"""The share of training after which the sharpness of the blocks is measured."""


@dataclass(frozen=True)
class MultiplierTask(Tagged):
    """SGD with each of ``rates``, with one learning rate and with multipliers by each rule of ``POWERS``.

    All runs have the same initial parameters, mini-batches and number of steps. The blocks are the layers; their
    largest eigenvalues are those of the run with one learning rate that is best, after a tenth of its steps.
    ``config.lr`` does not count. The record has one step: "final_loss", the mean training loss at the end, with a part
    "METHOD/RATE" where it did not diverge, and "multiplier", with a part "RULE/BLOCK".
    """

    name: str
    cost: float
    config: RunConfig
    rates: tuple[float, ...]

    def planned_runs(self) -> list[PlannedRun]:
        return [PlannedRun(self.config, self.config.steps, (1 + len(POWERS)) * len(self.rates))]

    def run(self, folder: Path, progress: Progress) -> None:
        """Train all, from the beginning where an earlier call was interrupted."""
        create = {"config": self.config.as_dict(), "overwrite": (folder / FILE).exists(), "tags": self.tags}
        with thread_count(1), Record.create(folder, **create) as record:  # type: ignore[arg-type]
            trained = _Trained(Parts(self.config))
            losses = self._losses(trained, PLAIN, {}, progress, 0)
            best = min(losses, key=lambda rate: losses[rate]) if losses else self.rates[0]
            sharpness = trained.block_sharpness(best, max(1, round(PROBED_AFTER * self.config.steps)))
            found = {f"{PLAIN}/{rate:g}": loss for rate, loss in losses.items()}
            multipliers: dict[str, float] = {}
            for place, (rule, power) in enumerate(POWERS.items(), 1):
                own = suggested(sharpness, power)
                multipliers |= {f"{rule}/{block}": value for block, value in own.items()}
                losses = self._losses(trained, rule, own, progress, place)
                found |= {f"{rule}/{rate:g}": loss for rate, loss in losses.items()}
            record.append(self.config.steps, [Reading("final_loss", found), Reading("multiplier", multipliers)])
            record.set_status("finished")

    def _losses(
        self, trained: _Trained, method: str, multipliers: Mapping[str, float], progress: Progress, place: int
    ) -> dict[float, float]:
        """The loss at the end by rate, of the runs that did not diverge."""
        found = {}
        for number, rate in enumerate(self.rates):
            loss = trained.final_loss(rate, multipliers, self.config.steps)
            if math.isfinite(loss):
                found[rate] = loss
            share = (place + (number + 1) / len(self.rates)) / (1 + len(POWERS))
            progress(share, f"{method}, learning rate {rate:g}")
        return found


def suggested(sharpness: Mapping[str, float], power: float) -> dict[str, float]:
    """A multiplier for each block, its sharpness to minus ``power``; their geometric mean is 1.

    A block without positive curvature has the multiplier of the flattest that has some.
    """
    positive = [value for value in sharpness.values() if value > 0]
    least = min(positive, default=1.0)
    logs = {block: -power * math.log(value if value > 0 else least) for block, value in sharpness.items()}
    mean = sum(logs.values()) / len(logs)
    return {block: math.exp(log - mean) for block, log in logs.items()}


class _Trained:
    """SGD of one network from the same initial parameters again and again, with the same mini-batches."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.start = {name: value.clone() for name, value in parts.model.state_dict().items()}

    def final_loss(self, rate: float, multipliers: Mapping[str, float], steps: int) -> float:
        """The mean loss of all training data after so many steps; not finite where training diverged."""
        parts = self.parts
        parts.model.load_state_dict(self.start)
        groups = [
            {"params": [tensor], "lr": rate * multipliers.get(_block(name), 1.0)}
            for name, tensor in parts.model.named_parameters()
        ]
        optimizer = torch.optim.SGD(groups, lr=rate)
        config = parts.config
        gradients = FromBatches(parts.model, parts.loss_fn, parts.samples, config.batch, config.seed)
        for step in range(steps):
            if not math.isfinite(float(gradients.compute(step))):
                return math.nan
            optimizer.step()
        with torch.no_grad():
            return float(parts.loss_fn(parts.model.eval(), parts.samples))

    def block_sharpness(self, rate: float, steps: int) -> dict[str, float]:
        """The largest eigenvalue of each layer after so many steps with one learning rate."""
        self.final_loss(rate, {}, steps)
        objective = self.parts.objective(self.parts.samples, "eval", path="kept", threads=1)
        return block_eigenvalues(objective, blocks_of(objective.layout, "layers")).values


def _block(name: str) -> str:
    """The layer of a tensor, as :func:`edgescope.measures.blocks.blocks_of` names it."""
    return name.rpartition(".")[0] or name
