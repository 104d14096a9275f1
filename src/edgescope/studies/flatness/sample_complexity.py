"""The claims about how many samples networks without bias need under 1-SAM."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.flatness.sample_sizes import scale
from edgescope.studies.flatness.seed_runs import WEN
from edgescope.studies.selection import whole
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Measured, Open, claim

LEVEL = 0.05
"""Test error at which enough samples have been seen."""

Values = Float[np.ndarray, " seeds"]
Sweep = dict[int, Values]
"""The sufficient numbers of samples of every seed, by dimension."""


def errors_by_size(run: StudyRun) -> dict[int, Values]:
    """Test errors of every seed by number of samples, from the smallest."""
    rows = run.record.table().filter(pl.col("measure") == "test_error").group_by("step").agg("value").sort("step")
    return {size: np.array(values) for size, values in rows.iter_rows()}


def sufficient_samples(errors: dict[int, Values], level: float) -> Values:
    """The number of samples at which the error of each seed first falls to ``level``, between measured sizes by a
    straight line; NaN where it does not, or lies there from the first."""
    sizes, curves = np.array(list(errors), dtype=float), np.stack(list(errors.values()))
    found = np.full(curves.shape[1], np.nan)
    for seed, curve in enumerate(curves.T):
        falls = np.flatnonzero((curve[:-1] > level) & (curve[1:] <= level))
        if falls.size:
            around = slice(int(falls[0]), int(falls[0]) + 2)
            found[seed] = np.interp(-level, -curve[around], sizes[around])
    return found


def _sweep(runs: list[StudyRun]) -> Sweep:
    found = {int(run.tags["dim"]): sufficient_samples(errors_by_size(run), LEVEL) for run in runs}
    return dict(sorted(found.items()))


def _spread(sweep: Sweep, size: Callable[[int], float]) -> Values:
    """The largest over the smallest n / size(d) over the dimensions, of every seed."""
    ratios = np.stack([n / size(dim) for dim, n in sweep.items()])
    return ratios.max(0) / ratios.min(0)


def _measured(sweep: Sweep, values: Callable[[Values, Values], Values]) -> Measured | Open:
    """The mean over seeds of what follows from their spreads of n / (d log d) and of n / d²."""
    beside: dict[str, float | Estimate] = {f"d = {d}: n at error {LEVEL:g}": sample_mean(n) for d, n in sweep.items()}
    if len(sweep) < 2:
        return Open("one dimension only", "other dimensions", beside=beside)
    if lacking := [dim for dim, n in sweep.items() if np.isnan(n).any()]:
        return Open(f"not every seed reaches the level at d = {lacking[0]}", "more samples there", beside=beside)
    rate, kernel = _spread(sweep, scale), _spread(sweep, lambda dim: dim**2)
    beside["largest over smallest n / d²"] = sample_mean(kernel)
    return Measured(sample_mean(values(rate, kernel)), beside)


stated = partial(
    claim,
    source=f"{WEN}, theorem for no bias",
    each=whole("all dimensions", role="sample-sizes").map(_sweep),
    figure="samples",
    how=f"n is the number of samples at which the test error falls to {LEVEL:g}, between measured sizes by a straight "
    "line, for every seed; mean over seeds. 1-SAM on networks without bias, a fixed number of updates.",
)


@stated(
    "flatness.samples-d-log-d",
    sentence="Without bias flattest networks generalize from some d log d samples",
    quantity="largest over smallest n / (d log d) over the dimensions d",
    region=(-np.inf, 2.0),
    origin="ours: the same constant within a factor 2; the paper has the rate and not the constant",
)
def samples_d_log_d(sweep: Sweep) -> Measured | Open:
    return _measured(sweep, lambda rate, kernel: rate)


@stated(
    "flatness.samples-not-d-squared",
    sentence="The samples that flattest networks without bias need grow as d log d rather than as d², as kernels need",
    quantity="largest over smallest n / (d log d) over the same for n / d²",
    region=(0.0, 1.0),
    origin="ours: less spread over the dimensions",
)
def samples_not_d_squared(sweep: Sweep) -> Measured | Open:
    return _measured(sweep, lambda rate, kernel: rate / kernel)


SAMPLE_COMPLEXITY = (samples_d_log_d, samples_not_d_squared)
