"""One network trained with one learning rate, and with multiples of it by block that follow from their sharpness."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from edgescope.linalg.blocks import block_eigenvalues
from edgescope.measures import Reading
from edgescope.measures.blocks import blocks_of
from edgescope.objective import Objective
from edgescope.objective.modules import thread_count
from edgescope.progress import Progress
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep import PlannedRun, Tagged
from edgescope.training import Parts, RunConfig
from edgescope.training.stack import Member, Stack

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
            trained = _Trained(Parts(self.config), self.rates)
            losses = trained.final_losses({PLAIN: {}}, lambda share: progress(share / 3, PLAIN))
            best = min(losses[PLAIN], key=lambda rate: losses[PLAIN][rate]) if losses[PLAIN] else self.rates[0]
            sharpness = trained.block_sharpness(best, max(1, round(PROBED_AFTER * self.config.steps)))
            rules = {rule: suggested(sharpness, power) for rule, power in POWERS.items()}
            losses |= trained.final_losses(rules, lambda share: progress((1 + 2 * share) / 3, " and ".join(POWERS)))
            found = {f"{method}/{rate:g}": loss for method, own in losses.items() for rate, loss in own.items()}
            multipliers = {f"{rule}/{block}": value for rule, own in rules.items() for block, value in own.items()}
            record.append(self.config.steps, [Reading("final_loss", found), Reading("multiplier", multipliers)])
            record.set_status("finished")


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

    def __init__(self, parts: Parts, rates: Sequence[float]) -> None:
        self.parts, self.rates = parts, rates

    def final_losses(
        self, methods: Mapping[str, Mapping[str, float]], progress: Callable[[float], None]
    ) -> dict[str, dict[float, float]]:
        """The mean loss of all training data at the end, by method and rate, of the runs that did not diverge.

        ``methods`` are multipliers by block. All runs are trained in one batch, one step of all after the other.
        """
        runs = [(method, rate) for method in methods for rate in self.rates]
        stack = self._stack([(rate, methods[method]) for method, rate in runs])
        finite = torch.ones(len(runs), dtype=torch.bool)
        for step in range(self.parts.config.steps):
            finite &= stack.step().isfinite()
            progress((step + 1) / self.parts.config.steps)
        losses = stack.losses(self.parts.samples)
        finite &= losses.isfinite()
        found: dict[str, dict[float, float]] = {method: {} for method in methods}
        for (method, rate), loss, kept in zip(runs, losses.tolist(), finite.tolist(), strict=True):
            if kept:
                found[method][rate] = loss
        return found

    def block_sharpness(self, rate: float, steps: int) -> dict[str, float]:
        """The largest eigenvalue of each layer after so many steps with one learning rate."""
        stack = self._stack([(rate, {})])
        for _ in range(steps):
            stack.step()
        model = stack.model(0, copy.deepcopy(self.parts.model))
        objective = Objective(model, self.parts.loss_fn, self.parts.samples, mode="eval", path="kept", threads=1)
        return block_eigenvalues(objective, blocks_of(objective.layout, "layers")).values

    def _stack(self, runs: Sequence[tuple[float, Mapping[str, float]]]) -> Stack:
        names = [name for name, _ in self.parts.model.named_parameters()]
        seed, batch = self.parts.config.seed, self.parts.config.batch
        members = [
            Member(rate, seed, factors={name: own[_block(name)] for name in names if _block(name) in own})
            for rate, own in runs
        ]
        return Stack([self.parts.model] * len(runs), self.parts.loss_fn, self.parts.samples, members, batch)


def _block(name: str) -> str:
    """The layer of a tensor, as :func:`edgescope.measures.blocks.blocks_of` names it."""
    return name.rpartition(".")[0] or name
