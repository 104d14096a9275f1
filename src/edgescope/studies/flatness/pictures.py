"""The pictures of the study `flatness`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from edgescope.figures import Figure, flatness_against_error, neuron_fields, seed_bands
from edgescope.store import Record
from edgescope.studies.flatness.sample_sizes import scale
from edgescope.studies.flatness.seen import ARCHITECTURES, Descents, descents_of, interval, sizes_of

TITLES = {
    "no-bias": "without bias",
    "batchnorm": "with batch norm",
    "bias": "with bias",
    "layernorm": "with layer norm",
}
METHODS = {
    "1SAM": "1-SAM",
    "noise": "label-noise SGD",
    "SAM": "full-batch SAM",
    "GD": "descent, weight decay",
}


def flatness_figures(runs: dict[str, Record]) -> list[Figure]:
    seen = descents_of(runs)
    figures = [*_overview(seen), *_explained(seen), *(f for name in ARCHITECTURES for f in _of_network(seen, name))]
    return [*figures, *_variants(seen), *_neurons(seen), *_sizes(runs)]


def _panels(runs: Iterable[tuple[str, Descents]], measures: Mapping[str, str]) -> pl.DataFrame:
    """Curves of these runs, by their labels: panel, run, x, low, middle, high."""
    tables = [
        run.curve(measure).select(
            panel=pl.lit(panel), run=pl.lit(label), x="epoch", low="low", middle="middle", high="high"
        )
        for measure, panel in measures.items()
        for label, run in runs
    ]
    return pl.concat(tables)


def _overview(seen: Mapping[str, Descents]) -> list[Figure]:
    found = [(TITLES[name], seen[f"{name}-1SAM"]) for name in ARCHITECTURES if f"{name}-1SAM" in seen]
    if not found:
        return []
    table = _panels(found, {"test_error": "test error", "training_error": "training error"})
    excess = _panels(found, {"trace": "trace over the least"})
    least = pl.DataFrame({"run": [label for label, _ in found], "least": [run.mean("least_trace") for _, run in found]})
    excess = excess.join(least, on="run", maintain_order="left")
    table = pl.concat([table, excess.with_columns(pl.col("low", "middle", "high") / pl.col("least")).drop("least")])
    return [
        Figure(
            "scenarios",
            "Four architectures under 1-SAM",
            "Means over seeds; shaded: their range. Dashed: the least trace of any interpolating network; without bias "
            "it is a lower bound, and the best network known has 1.41 times as much.",
            seed_bands(
                table,
                logarithmic=("trace over the least",),
                expected={"trace over the least": 1.0},
            ),
        )
    ]


def _explained(seen: Mapping[str, Descents]) -> list[Figure]:
    rows = [
        (TITLES[run.network], METHODS[run.method], float(excess), float(error))
        for run in seen.values()
        if run.network in TITLES and run.method in METHODS
        for excess, error in zip(run.excess, run.last("test_error"), strict=True)
    ]
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["network", "method", "excess", "error"], orient="row")
    return [
        Figure(
            "explained",
            "Does flatness explain the test error?",
            "A point a network at the end of training, a seed each. If flatness explained it, points would rise from "
            "left to right, and those at the dashed line would be right.",
            flatness_against_error(table),
        )
    ]


def _of_network(seen: Mapping[str, Descents], name: str) -> list[Figure]:
    found = [(label, seen[f"{name}-{method}"]) for method, label in METHODS.items() if f"{name}-{method}" in seen]
    if len(found) < 2:
        return []
    table = _panels(found, {"test_error": "test error", "trace": "trace"})
    return [
        Figure(
            f"training-{name}",
            f"Networks {TITLES[name]} under several minimizers",
            "Means over seeds; shaded: their range; an epoch is one step of a full-batch method, and 100 steps of one "
            "sample. Dashed: the least trace"
            + (", a lower bound here." if name == "no-bias" else " of any interpolating network."),
            seed_bands(table, logarithmic=("trace",), expected={"trace": found[0][1].mean("least_trace")}),
        )
    ]


def _variants(seen: Mapping[str, Descents]) -> list[Figure]:
    labels = {
        "bias-1SAM": "width 500",
        "bias-narrow-1SAM": "width 100",
        "softplus-1SAM": "softplus",
        "logistic-1SAM": "logistic loss",
        "three-layers-1SAM": "three layers",
    }
    found = [(label, seen[name]) for name, label in labels.items() if name in seen]
    if len(found) < 2:
        return []
    return [
        Figure(
            "variants",
            "Networks with bias under 1-SAM: widths, activation, loss, depth",
            "Means over seeds; shaded: their range.",
            seed_bands(_panels(found, {"test_error": "test error"})),
        )
    ]


def _neurons(seen: Mapping[str, Descents]) -> list[Figure]:
    tables = []
    for name in ARCHITECTURES:
        run = seen.get(f"{name}-1SAM")
        if run is None:
            continue
        weights = run.record.array(run.record.last_step or 0, "neurons", "0")
        neuron, place = np.indices(weights.shape) + 1
        columns = {"neuron": neuron.ravel(), "input": place.ravel(), "weight": weights.ravel()}
        tables.append(pl.DataFrame(columns).with_columns(network=pl.lit(TITLES[name])))
    if not tables:
        return []
    return [
        Figure(
            "neurons",
            "Which features 1-SAM found",
            "The twelve largest neurons of the first seed, a row each: weights of the 30 inputs, of which only the "
            "first two matter. A neuron that looks at those two alone generalizes; one that looks at all memorizes.",
            neuron_fields(pl.concat(tables)),
        )
    ]


def _sizes(runs: Mapping[str, Record]) -> list[Figure]:
    rows = [
        ("test error", f"d = {dim}", size / scale(dim), *interval(errors))
        for dim, sizes in sizes_of(runs).items()
        for size, errors in sizes.items()
    ]
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["panel", "run", "x", "low", "middle", "high"], orient="row")
    return [
        Figure(
            "samples",
            "How many samples the generalizing scenario needs",
            "Networks without bias under 1-SAM: test error against n/(d log d), means over seeds with 95% intervals. "
            "If d log d is the rate, the curves fall together.",
            seed_bands(table, x_title="n / (d log d)"),
        )
    ]
