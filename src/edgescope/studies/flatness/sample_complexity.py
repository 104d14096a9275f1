"""The claims about how many samples networks without bias need under 1-SAM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.flatness.sample_sizes import Values, errors_by_size, scale, sufficient_samples
from edgescope.experiments.selection import whole
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.stated_claim import stated_claim

LEVEL = 0.05
"""Test error at which enough samples have been seen."""

SamplesByDimension = dict[int, Values]
"""The sufficient numbers of samples of every seed, by dimension."""


def _sweep(runs: list[StudyRun]) -> SamplesByDimension:
    found = {int(run.tags["dim"]): sufficient_samples(errors_by_size(run), LEVEL) for run in runs}
    return dict(sorted(found.items()))


def _spread(sweep: SamplesByDimension, size: Callable[[int], float]) -> Values:
    """The largest over the smallest n / size(d) over the dimensions, of every seed."""
    ratios = np.stack([n / size(dim) for dim, n in sweep.items()])
    return ratios.max(0) / ratios.min(0)


def _measured(sweep: SamplesByDimension, values: Callable[[Values, Values], Values]) -> Measured | Open:
    """The mean over seeds of what follows from their spreads of n / (d log d) and of n / d²."""
    beside: dict[str, float | Estimate] = {f"d = {d}: n at error {LEVEL:g}": sample_mean(n) for d, n in sweep.items()}
    if len(sweep) < 2:
        return Open("one dimension only", "other dimensions", beside=beside)
    if lacking := [dim for dim, n in sweep.items() if np.isnan(n).any()]:
        return Open(f"not every seed reaches the level at d = {lacking[0]}", "more samples there", beside=beside)
    rate, kernel = _spread(sweep, scale), _spread(sweep, lambda dim: dim**2)
    beside["largest over smallest n / d²"] = sample_mean(kernel)
    return Measured(sample_mean(values(rate, kernel)), beside)


DIMENSIONS = whole("all dimensions", role="sample-sizes").map(_sweep)


@stated_claim("flatness.samples-d-log-d", each=DIMENSIONS)
def samples_d_log_d(sweep: SamplesByDimension) -> Measured | Open:
    return _measured(sweep, lambda rate, kernel: rate)


@stated_claim("flatness.samples-not-d-squared", each=DIMENSIONS)
def samples_not_d_squared(sweep: SamplesByDimension) -> Measured | Open:
    return _measured(sweep, lambda rate, kernel: rate / kernel)


SAMPLE_COMPLEXITY = (samples_d_log_d, samples_not_d_squared)
