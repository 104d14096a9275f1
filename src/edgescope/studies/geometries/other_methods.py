"""The claims about normalized Spectral descent of Chen et al., and about RMSProp as its memory gets shorter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgescope.claims import Region
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import time_mean
from edgescope.studies.selection import tagged, whole
from edgescope.studies.sources import ISLAMOV
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Measured, Open, claim
from edgescope.studies.threshold_series import AT_LEAST, ThresholdSeries

CHEN = "Chen et al. 2026 (Muon Sublates the Edge of Stability)"

FIRST_RISE = 1350
"""The step of the first rise of the loss of Chen et al.'s convolutional network."""

OTHER_DATA = (
    "On Fashion-MNIST images and the text of the Apache License instead of CIFAR-10 and TinyShakespeare, with exact "
    "polar factors; the table of runs has networks, data and precision."
)


@claim(
    "geometries.chen-settles",
    sentence="Under full-batch normalized Spectral descent at η = 0.007, s approaches 2/η and oscillates around it",
    source=CHEN,
    quantity="mean over time of s over 2/η",
    region=Region.around(1.0, 0.10),
    origin="the tolerance given with the claim: 10%",
    each=tagged(role="chen").map(lambda run: ThresholdSeries.of(run, "directional_smoothness", "ratio")),
    figure="chen",
    how=f"{OTHER_DATA} s is the directional smoothness over the nuclear norm of the gradient, at every step from its "
    "first crossing on.",
)
def chen_settles(series: ThresholdSeries) -> Measured | Open:
    mean = series.mean_after_arrival(at_least=10 * AT_LEAST)
    return mean if isinstance(mean, Open) else Measured(mean, {"crosses at step": series.arrival_step})


@claim(
    "geometries.chen-first-rise",
    sentence="There the loss of the convolutional network first rises at step 1350",
    source=CHEN,
    quantity="step of the first rise of the loss",
    region=Region.around(FIRST_RISE, 0.20),
    origin="the tolerance given with the claim, for seed and hardware: 20%",
    unit="steps",
    each=tagged(role="chen", network="CNN"),
    figure="chen",
    how="A number of steps belongs to its data, so that on any other than CIFAR-10 it is given and not judged.",
)
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


@claim(
    "geometries.rmsprop-forgets",
    sentence="The account of RMSProp's stability by its frozen preconditioner fails as β₂ goes to 0",
    source=ISLAMOV,
    quantity="factor between effective sharpness and 2/η at β₂ = 0, whichever is larger",
    region=(1.5, np.inf),
    origin="ours: the paper's statement is qualitative",
    status="second hand",
    each=whole("shortest memory", role="rmsprop"),
    figure="rmsprop",
    how="Geometric means over the second half of each run, since without memory the ratio goes through decades. All "
    "runs have the learning rate of sign descent, which RMSProp is where β₂ is 0. Open where the mean of the run with "
    "the longest memory is not within 20% of its threshold: then nothing shows that the account ever holds.",
)
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
