"""The runs of the study `edge` that compare learning rates by block with one learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgescope.experiments.edge.multiplier_task import PLAIN, MultiplierTask
from edgescope.experiments.preset import Preset
from edgescope.experiments.selection import Item, grouped
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.statistics.means import sample_mean
from edgescope.training import RunConfig

MULTIPLIERS: Final = "multipliers"
"""The role of these runs."""

# Divergence is sudden, so that rates are close to each other near it: 2^(1/2) apart.
RATES: Final = tuple(round(0.1 * 2 ** (k / 2), 4) for k in range(12))

MLP = ("mlp:widths=64x32x32,activation=tanh", "mse")
CNN = ("cnn:channels=8x8,activation=relu", "cross-entropy")

NETWORKS: Final[dict[Preset, dict[str, tuple[str, str]]]] = {
    "quick": {"MLP": MLP},
    "full": {"MLP": MLP, "CNN": CNN},
    "paper": {"MLP": MLP, "CNN": CNN},
}

SEEDS: Final[dict[Preset, int]] = {"quick": 3, "full": 5, "paper": 5}
STEPS: Final[dict[Preset, int]] = {"quick": 160, "full": 320, "paper": 320}
"""5 and 10 epochs of 1,024 images of digits in mini-batches of 32."""


def multiplier_tasks(preset: Preset, seed: int) -> list[MultiplierTask]:
    """A task for each network and seed."""
    return [
        _task(network, model, loss, STEPS[preset], seed + own)
        for network, (model, loss) in NETWORKS[preset].items()
        for own in range(SEEDS[preset])
    ]


def _task(network: str, model: str, loss: str, steps: int, seed: int) -> MultiplierTask:
    config = RunConfig(
        data="digits:train=1024",
        model=model,
        loss=loss,
        batch=32,
        steps=steps,
        measures=(),
        seed=seed,
        threads=1,
        path="kept",
    )
    tags = {"role": MULTIPLIERS, "network": network, "seed": str(seed)}
    cost = (0.04 if network == "MLP" else 0.3) * 3 * steps * len(RATES)
    return MultiplierTask(f"{MULTIPLIERS}-{network}-s{seed}", cost, config, RATES, tags=tags)


@dataclass(frozen=True)
class RuleAgainstOneRate:
    """The best loss of a rule for multipliers over the best with one learning rate, a logarithm for each seed.

    ``at_the_end`` are seeds of which a best learning rate is the largest or smallest of those that were tried.
    """

    logs: tuple[float, ...]
    at_the_end: int

    @property
    def ratio(self) -> Estimate:
        """The geometric mean of the ratios with the interval over seeds."""
        mean = sample_mean(self.logs)
        if not mean.known:
            return UNKNOWN if math.isnan(mean.value) else Estimate(math.exp(mean.value), samples=1, sampled="seeds")
        value, low, high = map(math.exp, (mean.value, mean.low, mean.high))
        return Estimate(value, low, high, mean.samples, "seeds")


def rules_against_one_rate(runs: Runs) -> list[Item[RuleAgainstOneRate]]:
    """Every network and rule, one case each."""
    items = []
    for group in grouped("network", role=MULTIPLIERS)(runs):
        losses = [_final_losses(run) for run in group.value]
        for rule in dict.fromkeys(rule for each in losses for rule in each if rule != PLAIN):
            both = [(each[PLAIN], each[rule]) for each in losses if each.get(PLAIN) and each.get(rule)]
            logs = tuple(math.log(min(new.values()) / min(old.values())) for old, new in both)
            ends = sum(any(_best(each) in (RATES[0], RATES[-1]) for each in pair) for pair in both)
            name = f"{group.name}, {rule}"
            items.append(Item(name, RuleAgainstOneRate(logs, ends), {"network": group.name, "rule": rule}))
    return items


def _best(losses: Mapping[float, float]) -> float:
    return min(losses, key=lambda rate: losses[rate])


def _final_losses(run: StudyRun) -> dict[str, dict[float, float]]:
    """The final losses of a task by method and learning rate."""
    found: dict[str, dict[float, float]] = {}
    table = run.record.table()
    for measure, part, value in table.select("measure", "part", "value").iter_rows():
        if measure == "final_loss" and value is not None:
            method, _, rate = part.rpartition("/")
            found.setdefault(method, {})[float(rate)] = value
    return found
