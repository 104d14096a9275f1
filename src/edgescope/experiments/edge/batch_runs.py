"""Runs on mini-batches as claims see them: beside the run on all data, and pairs of neighbouring batch sizes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from edgescope.claims import Open
from edgescope.experiments.edge.mini_batch_runs import FULL_BATCH, SETTLING
from edgescope.experiments.edge.settled import half_mean, half_ratio, second_half, settled_mean, settled_ratio
from edgescope.experiments.selection import Item, tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.experiments.threshold_series import ThresholdSeries
from edgescope.statistics.estimate import UNKNOWN, Estimate

SAME: Final = ("network", "labels", "lr", "seed")
"""The tags that runs have in common which differ in their batch size alone."""


def late_mean(run: StudyRun, measure: str, part: str = "") -> Estimate:
    """The mean over the second half of a run."""
    return half_mean(*run.record.series(measure, part))


def late_range(run: StudyRun, measure: str, part: str = "") -> Estimate:
    """The mean over the second half of a run, with the lowest and the highest reading there as its interval."""
    late = second_half(*run.record.series(measure, part))[1]
    return Estimate(late.mean(), late.min(), late.max()) if late.size else UNKNOWN


def settled(run: StudyRun, measure: str, part: str = "") -> Estimate | Open:
    """Where a measure of a run has settled, or why it has not."""
    return settled_mean(*run.record.series(measure, part))


def settled_batch_sharpness(run: StudyRun) -> Estimate | Open:
    """Where η R has settled: R is the ratio of means of g'Hg and |g|² over all mini-batches of the second half."""
    return settled_ratio(*_batch_sharpness(run))


def late_batch_sharpness(run: StudyRun) -> Estimate:
    """The same, whether it has settled or not."""
    return half_ratio(*_batch_sharpness(run))


def _batch_sharpness(
    run: StudyRun,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Step, η R, and the mean of |g|² of each reading."""
    steps, ratios = run.record.series("batch_sharpness", "weighted")
    return steps, float(run.record.config["lr"]) * ratios, run.record.series("batch_sharpness", "square")[1]


@dataclass(frozen=True)
class BesideFullBatch:
    """A run on mini-batches, and that on all data which differs in the batch size alone; None where there is none."""

    run: StudyRun
    full: StudyRun | None

    @property
    def arrives(self) -> bool:
        """Whether gradient descent at this learning rate arrives at 2/η."""
        return self.full is not None and ThresholdSeries.of(self.full).arrival is not None


def beside_full_batch(runs: Runs) -> list[Item[BesideFullBatch]]:
    """Every run of plain SGD on mini-batches, one case each."""
    return [
        Item(run.name, BesideFullBatch(run, group.get(FULL_BATCH)), run.tags)
        for group in _groups(runs)
        for size, run in group.items()
        if size != FULL_BATCH
    ]


@dataclass(frozen=True)
class NeighbouringSizes:
    """Two runs that differ in the batch size alone, with no size between."""

    smaller: StudyRun
    larger: StudyRun
    arrives: bool


def neighbouring_sizes(runs: Runs) -> list[Item[NeighbouringSizes]]:
    """Every two neighbouring batch sizes of a problem, learning rate and seed; all data are the largest."""
    items = []
    for group in _groups(runs):
        ordered = sorted(group, key=lambda size: np.inf if size == FULL_BATCH else int(size))
        arrives = BesideFullBatch(group[ordered[0]], group.get(FULL_BATCH)).arrives
        for small, large in itertools.pairwise(ordered):
            pair = NeighbouringSizes(group[small], group[large], arrives)
            common = {name: group[small].tags[name] for name in SAME}
            items.append(Item(f"{group[small].name} to {large}", pair, common | {"batch": small}))
    return items


def _groups(runs: Runs) -> list[dict[str, StudyRun]]:
    """The runs that differ in the batch size alone, by that size."""
    groups: dict[tuple[str, ...], dict[str, StudyRun]] = {}
    for item in tagged(role=SETTLING)(runs):
        run = item.value
        groups.setdefault(tuple(run.tags[name] for name in SAME), {})[run.tags["batch"]] = run
    return list(groups.values())


@dataclass(frozen=True)
class StepsOfRun:
    """Of each step in the second half of a run: the change of the loss of all data, and that to first order, g·d."""

    changes: Float[np.ndarray, " n"]
    slopes: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, run: StudyRun) -> StepsOfRun:
        """From the directional smoothness D and the norm of every step: g·d = change - D |d|²/2."""
        values = {}
        for name, part in (("directional_smoothness", ""), ("directional_smoothness", "actual"), ("update_norm", "")):
            steps, series = second_half(*run.record.series(name, part))
            values[name, part] = dict(zip(steps.tolist(), series.tolist(), strict=True))
        smooth, change, norm = values.values()
        common = [step for step in smooth if step in change and step in norm]
        changes = np.array([change[step] for step in common], dtype=float)
        bends = np.array([smooth[step] * norm[step] ** 2 / 2 for step in common], dtype=float)
        return cls(changes, changes - bends)

    @property
    def used(self) -> float:
        """The mean of 1 + change/(-g·d), weighted with -g·d: 1 where the changes add up to nothing."""
        return float(1 - self.changes.sum() / self.slopes.sum())
