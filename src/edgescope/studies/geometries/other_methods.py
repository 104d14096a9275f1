"""The claims about normalized Spectral descent of Chen et al., and about RMSProp as its memory gets shorter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.selection import tagged, whole
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.threshold_series import AT_LEAST, ThresholdSeries
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import time_mean
from edgescope.studies.stated_claim import stated_claim

FIRST_RISE = 1350
"""The step of the first rise of the loss of Chen et al.'s convolutional network."""


@stated_claim(
    "geometries.chen-settles",
    each=tagged(role="chen").map(lambda run: ThresholdSeries.of(run, "directional_smoothness", "ratio")),
)
def chen_settles(series: ThresholdSeries) -> Measured | Open:
    mean = series.mean_after_arrival(at_least=10 * AT_LEAST)
    return mean if isinstance(mean, Open) else Measured(mean, {"crosses at step": series.arrival_step})


@stated_claim("geometries.chen-first-rise", each=tagged(role="chen", network="CNN"))
def chen_first_rise(run: StudyRun) -> Estimate | Open:
    steps, loss = run.record.series("training_loss")
    rising = np.flatnonzero(np.diff(loss) > 0)
    first = float(steps[rising[0] + 1]) if rising.size else np.nan
    if not str(run.record.config["data"]).startswith("cifar10"):
        return Open("other data than CIFAR-10", "the preset paper", first)
    if rising.size:
        return Estimate.exact(first)
    if steps[-1] > 1.2 * FIRST_RISE:
        return Estimate.exact(np.inf)  # it never rose, and by then it should have
    return Open("the loss never rose", f"about {1.2 * FIRST_RISE - steps[-1]:,.0f} more steps")


@stated_claim("geometries.rmsprop-forgets", each=whole("shortest memory", role="rmsprop"))
def rmsprop_forgets(runs: Sequence[StudyRun]) -> Measured | Open:
    logs = {float(run.tags["beta2"]): _log_mean(run) for run in runs}
    longest, shortest = logs[max(logs)], logs[min(logs)]
    beside = {f"mean over 2/η, β₂ = {beta:g}": math.exp(logs[beta].value) for beta in sorted(logs, reverse=True)}
    if not abs(math.exp(longest.value) - 1) <= 0.2:
        return Open("the longest memory is not at its edge", "another learning rate", beside=beside)
    if not shortest.known:
        return Open("its readings are not independent", "a longer run", beside=beside)
    ends = abs(shortest.low), abs(shortest.high)
    low = 0.0 if shortest.low <= 0 <= shortest.high else min(ends)
    value, low, high = (math.exp(log) for log in (abs(shortest.value), low, max(ends)))
    return Measured(Estimate(value, low, high, shortest.samples, "readings"), beside)


def _log_mean(run: StudyRun) -> Estimate:
    """The mean of the logarithm of effective sharpness over threshold in the second half of a run."""
    _, ratio = run.record.series("ratio")
    late = ratio[len(ratio) // 2 :]
    return time_mean(np.log(late[late > 0])) if len(ratio) >= AT_LEAST else Estimate(np.nan)


OTHER_METHODS = (chen_settles, chen_first_rise, rmsprop_forgets)
