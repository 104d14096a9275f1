"""The claims about SGD on mini-batches: where it settles, and what of the headroom of its steps tells."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.edge.batch_runs import (
    BesideFullBatch,
    NeighbouringSizes,
    StepsOfRun,
    beside_full_batch,
    late_batch_sharpness,
    late_mean,
    late_range,
    neighbouring_sizes,
    settled,
    settled_batch_sharpness,
)
from edgescope.experiments.edge.mini_batch_runs import HEADROOM, MOMENTUM, SETTLING
from edgescope.experiments.edge.settled import second_half
from edgescope.experiments.selection import CaseSelection, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import UNKNOWN, Estimate
from edgescope.studies.stated_claim import stated_claim

NEVER_ARRIVES = Open("gradient descent on all data does not arrive at 2/η either", "a larger learning rate")

PLATEAU = 1.2
"""The loss stays on a plateau where its medians in the last two quarters of a run differ by at most this factor."""

SMALL_BATCHES = ("4", "8")
"""Batch sizes that are small beside the 96 samples of the runs with momentum."""


@stated_claim("edge.batch-sharpness-settles", each=CaseSelection(beside_full_batch))
def batch_sharpness_settles(pair: BesideFullBatch) -> Measured | Open:
    rate = float(pair.run.record.config["lr"])
    if not pair.arrives:
        return replace(NEVER_ARRIVES, value=late_batch_sharpness(pair.run).value)
    found = settled_batch_sharpness(pair.run)
    beside = {
        "η · mean of readings of R": late_mean(pair.run, "batch_sharpness", "weighted").scaled(rate),
        "η · mean of ratios": late_mean(pair.run, "batch_sharpness").scaled(rate),
        "η · λ_max": late_mean(pair.run, "sharpness", "1").scaled(rate),
    }
    if isinstance(found, Open):
        return replace(found, beside=beside)
    return Measured(found, beside)


@stated_claim("edge.sharpness-falls-with-batch", each=CaseSelection(neighbouring_sizes))
def sharpness_falls(pair: NeighbouringSizes) -> Measured | Open:
    small, large = (late_mean(run, "sharpness", "1") for run in (pair.smaller, pair.larger))
    if not pair.arrives:
        return replace(NEVER_ARRIVES, value=small.value / large.value)
    rate = float(pair.smaller.record.config["lr"])
    beside = {"η · λ_max, smaller": small.scaled(rate), "η · λ_max, larger": large.scaled(rate)}
    return Measured(_quotient(small, large), beside)


@stated_claim("edge.batch-sharpness-settles-with-momentum", each=tagged(role=MOMENTUM, batch=SMALL_BATCHES))
def settles_with_momentum(run: StudyRun) -> Measured | Open:
    found = settled(run, "batch_sharpness")
    factor = 1 / _plateaus(run)[0]
    beside = {"the ratio of means over 2(1-β)/η": late_mean(run, "batch_sharpness", "ratio")}
    if isinstance(found, Open):
        return replace(found, value=found.value * factor, beside=beside)
    return Measured(found.scaled(factor), beside)


@stated_claim("edge.between-the-plateaus", each=tagged(role=MOMENTUM))
def between_the_plateaus(run: StudyRun) -> Measured | Open | None:
    if run.record.config["batch"] is None:
        return None  # the batch sharpness of all data is no mean over mini-batches
    small, large = _plateaus(run)
    batch = late_range(run, "batch_sharpness").scaled(1 / small)
    whole = late_range(run, "sharpness", "1").scaled(1 / large)
    if not (batch.known and whole.known and min(batch.low, whole.low) > 0):
        return Open(f"the run {run.record.status} without readings of both", "a smaller learning rate")
    nearest = min((batch, whole), key=lambda one: abs(math.log(one.value)))
    return Measured(_factor(nearest), {"batch sharpness over 2(1-β)/η": batch, "λ_max over 2(1+β)/η": whole})


@stated_claim("edge.full-batch-headroom-is-one", each=tagged(role=HEADROOM))
def full_batch_headroom(run: StudyRun) -> Measured | Open:
    found = StepsOfRun.of(run)
    own = {"1/s* on the batch of the step": late_mean(run, "headroom", "ratio/batch")}
    losses = second_half(*run.record.series("training_loss"))[1]
    third, fourth = (float(np.median(part)) for part in np.array_split(losses, 2))
    if max(third / fourth, fourth / third) > PLATEAU:
        return Open(f"no plateau: the loss went from {third:.3g} to {fourth:.3g}", "a longer run", found.used, own)
    return Measured(Estimate.exact(found.used), own)


@stated_claim("edge.own-batch-headroom-tells", each=tagged(role=(HEADROOM, SETTLING), optimizer="sgd"))
def own_batch_headroom(run: StudyRun) -> Measured | Open | None:
    if run.record.config["batch"] is None:
        return None
    expected = late_mean(run, "batch_sharpness").scaled(float(run.record.config["lr"]) / 2)
    own = late_mean(run, "headroom", "ratio/batch")
    if not (expected.known and own.known):
        return Open("still drifting", "a longer run", own.value / expected.value)
    return Measured(
        _quotient(own, expected), {"1/s* on the batch of the step": own, "η · batch sharpness / 2": expected}
    )


def _plateaus(run: StudyRun) -> tuple[float, float]:
    """2(1-β)/η and 2(1+β)/η of a run with Polyak momentum."""
    rate, momentum = float(run.record.config["lr"]), float(run.tags["momentum"])
    return 2 * (1 - momentum) / rate, 2 * (1 + momentum) / rate


def _quotient(above: Estimate, below: Estimate) -> Estimate:
    """The ratio of two independent means, with the interval of its logarithm; without one where either has none."""
    value = above.value / below.value
    if not (above.known and below.known and min(above.value, below.value) > 0):
        return UNKNOWN if math.isnan(value) else Estimate(value)
    reach = math.hypot(above.half_width / above.value, below.half_width / below.value)
    return Estimate(value, value * math.exp(-reach), value * math.exp(reach))


def _factor(ratio: Estimate) -> Estimate:
    """By which factor a ratio differs from 1, whichever is larger."""
    if ratio.value >= 1:
        return ratio
    return Estimate(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)


SETTLING_CLAIMS = (batch_sharpness_settles, sharpness_falls, settles_with_momentum, between_the_plateaus)
HEADROOM_CLAIMS = (full_batch_headroom, own_batch_headroom)
