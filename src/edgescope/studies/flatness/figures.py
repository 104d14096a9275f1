"""The figures of the study `flatness`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from edgescope.experiments.flatness.runs import METHODS
from edgescope.experiments.flatness.sample_sizes import errors_by_size, scale
from edgescope.experiments.flatness.seed_runs import ARCHITECTURES, TITLES, SeedRuns, seed_runs
from edgescope.experiments.flatness.user_network import last
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure, flatness_against_error, neuron_fields, seed_bands
from edgescope.figures.chart import Chart

EXCESS = "trace over the least"
VARIANTS = {
    "bias": "width 500",
    "bias-narrow": "width 100",
    "softplus": "softplus",
    "logistic": "logistic loss",
    "three-layers": "three layers",
}
RANGE = "Means over seeds; shaded: their range."

Found = Mapping[tuple[str, str], SeedRuns]
"""The runs on the paper's networks that have a seed left, by network and method."""


def flatness_figures(runs: Runs) -> list[Figure]:
    """The figures whose runs have left a record."""
    every = [(item.factors, item.value) for item in seed_runs()(runs)]
    found = {(tags["network"], tags["method"]): run for tags, run in every if run.seeds}
    drawn: list[tuple[str, str, str, Chart | None]] = [
        (
            "scenarios",
            "Four architectures under 1-SAM",
            f"{RANGE} Dashed: the least trace of any interpolating network; without bias it is a lower bound, and the "
            "best network known has 1.41 times as much.",
            _scenarios(found),
        ),
        (
            "explained",
            "Does flatness explain the test error?",
            "A point a network that has fitted its samples, at the end of training, a seed each. If flatness explained "
            "it, points would rise from left to right, and those at the dashed line would be right.",
            _explained(found),
        ),
        (
            "minimizers",
            "The four architectures under several minimizers",
            f"{RANGE} An epoch is one step of a full-batch method, and 100 steps of one sample. Dashed: the least "
            "trace of any interpolating network, without bias a lower bound.",
            _minimizers(found),
        ),
        ("variants", "Networks with bias under 1-SAM: widths, activation, loss, depth", RANGE, _variants(found)),
        (
            "neurons",
            "Which features 1-SAM found",
            "The twelve largest neurons of the first seed, a row each: weights of the 30 inputs, of which only the "
            "first two matter. A neuron that looks at those two alone generalizes; one that looks at all memorizes.",
            _neurons(found),
        ),
        (
            "samples",
            "How many samples the generalizing scenario needs",
            f"Networks without bias under 1-SAM: test error against n/(d log d). {RANGE} If d log d is the rate, the "
            "curves fall together.",
            _sizes(runs),
        ),
        (
            "user-problem",
            "The network of the user's choice: did the test error follow?",
            "A point a seed at the end of training: trace of the Hessian and test error, by SGD and by SAM at several "
            "radii.",
            _user_problem(runs),
        ),
    ]
    return [Figure(name, title, caption, chart) for name, title, caption, chart in drawn if chart is not None]


def _curves(panel: str, measure: str, runs: Iterable[tuple[str, SeedRuns]], over: str = "") -> list[pl.DataFrame]:
    """Curves of these runs, by their labels: panel, run, x, and the mean over seeds between the ends of their range,
    over the last mean of another measure if one is named (an interval of two seeds would hide all)."""
    tables = []
    for label, run in runs:
        epochs, values = run.series(measure)
        values = values / run.mean(over).value if over else values
        columns = {"x": epochs, "low": values.min(1), "middle": values.mean(1), "high": values.max(1)}
        tables.append(pl.DataFrame(columns).select(pl.lit(panel).alias("panel"), pl.lit(label).alias("run"), pl.all()))
    return tables


def _scenarios(found: Found) -> Chart | None:
    shown = [(TITLES[name], found[name, "1SAM"]) for name in ARCHITECTURES if (name, "1SAM") in found]
    tables = [*_curves("test error", "test_error", shown), *_curves("training error", "training_error", shown)]
    tables += _curves(EXCESS, "trace", shown, over="least_trace")
    return seed_bands(pl.concat(tables), logarithmic=(EXCESS,), expected={EXCESS: 1.0}) if tables else None


def _explained(found: Found) -> Chart | None:
    rows = [
        (TITLES[network], METHODS[method], float(excess), float(error))
        for (network, method), run in found.items()
        if network in TITLES and not run.not_fitted
        for excess, error in zip(run.excess, run.last("test_error"), strict=True)
    ]
    table = pl.DataFrame(rows, schema=["network", "method", "sharpness", "error"], orient="row")
    return flatness_against_error(table, x_title="trace over the least trace", expected=1.0) if rows else None


def _minimizers(found: Found) -> Chart | None:
    tables: list[pl.DataFrame] = []
    for name in ARCHITECTURES:
        shown = [(label, found[name, method]) for method, label in METHODS.items() if (name, method) in found]
        tables += _curves(f"{TITLES[name]}: test error", "test_error", shown)
        tables += _curves(f"{TITLES[name]}: {EXCESS}", "trace", shown, over="least_trace")
    flat = [f"{TITLES[name]}: {EXCESS}" for name in ARCHITECTURES]
    expected = dict.fromkeys(flat, 1.0)
    return seed_bands(pl.concat(tables), logarithmic=flat, expected=expected, columns=2) if tables else None


def _variants(found: Found) -> Chart | None:
    shown = [(label, found[name, "1SAM"]) for name, label in VARIANTS.items() if (name, "1SAM") in found]
    return seed_bands(pl.concat(_curves("test error", "test_error", shown))) if len(shown) > 1 else None


def _neurons(found: Found) -> Chart | None:
    tables = []
    for name, run in ((name, found[name, "1SAM"]) for name in ARCHITECTURES if (name, "1SAM") in found):
        weights = run.neurons()
        neuron, place = np.indices(weights.shape) + 1
        columns = {"neuron": neuron.ravel(), "input": place.ravel(), "weight": weights.ravel()}
        tables.append(pl.DataFrame(columns).with_columns(network=pl.lit(TITLES[name])))
    return neuron_fields(pl.concat(tables)) if tables else None


def _sizes(runs: Runs) -> Chart | None:
    rows = [
        ("test error", f"d = {dim}", size / scale(dim), errors.min(), errors.mean(), errors.max())
        for dim, run in ((int(item.factors["dim"]), item.value) for item in tagged(role="sample-sizes")(runs))
        for size, errors in errors_by_size(run).items()
    ]
    table = pl.DataFrame(rows, schema=["panel", "run", "x", "low", "middle", "high"], orient="row")
    return seed_bands(table, x_title="n / (d log d)") if rows else None


def _user_problem(runs: Runs) -> Chart | None:
    rows = [
        (f"SAM, ρ {run.tags['rho']}" if "rho" in run.tags else "SGD", "", trace, 1 - accuracy)
        for run in (item.value for item in tagged(role="user")(runs))
        for trace, accuracy in [(last(run, "trace"), last(run, "accuracy"))]
        if run.record.status == "finished" and trace > 0 and accuracy >= 0
    ]
    table = pl.DataFrame(rows, schema=["network", "method", "sharpness", "error"], orient="row")
    return flatness_against_error(table) if rows else None
