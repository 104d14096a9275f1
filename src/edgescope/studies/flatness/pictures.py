"""The pictures of the study `flatness`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from edgescope.figures import Figure, flatness_against_error, neuron_fields, seed_bands
from edgescope.store import Record
from edgescope.studies.flatness.own import last, own_runs
from edgescope.studies.flatness.sample_sizes import scale
from edgescope.studies.flatness.seen import ARCHITECTURES, METHODS, TITLES, Descents, descents_of, sizes_of

EXCESS = "trace over the least"


def flatness_figures(runs: dict[str, Record]) -> list[Figure]:
    seen = descents_of(runs)
    figures = [*_overview(seen), *_explained(seen), *_minimizers(seen), *_variants(seen), *_neurons(seen)]
    return [*figures, *_sizes(runs), *_own(runs)]


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
    table = pl.concat([table, *(_excess(label, run, EXCESS) for label, run in found)])
    return [
        Figure(
            "scenarios",
            "Four architectures under 1-SAM",
            "Means over seeds; shaded: their range. Dashed: the least trace of any interpolating network; without bias "
            "it is a lower bound, and the best network known has 1.41 times as much.",
            seed_bands(
                table,
                logarithmic=(EXCESS,),
                expected={EXCESS: 1.0},
            ),
        )
    ]


def _excess(label: str, run: Descents, panel: str) -> pl.DataFrame:
    """The curve of the trace over the least one."""
    table = _panels([(label, run)], {"trace": panel})
    return table.with_columns(pl.col("low", "middle", "high") / run.mean("least_trace"))


def _explained(seen: Mapping[str, Descents]) -> list[Figure]:
    rows = [
        (TITLES[run.network], METHODS[run.method], float(excess), float(error))
        for run in (seen.get(f"{network}-{method}") for network in ARCHITECTURES for method in METHODS)
        if run is not None and run.fitted
        for excess, error in zip(run.excess, run.last("test_error"), strict=True)
    ]
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["network", "method", "sharpness", "error"], orient="row")
    return [
        Figure(
            "explained",
            "Does flatness explain the test error?",
            "A point a network that has fitted its samples, at the end of training, a seed each. If "
            "flatness explained it, points would rise from left to right, and those at the dashed line would be right.",
            flatness_against_error(table, x_title="trace over the least trace", expected=1.0),
        )
    ]


def _minimizers(seen: Mapping[str, Descents]) -> list[Figure]:
    tables: list[pl.DataFrame] = []
    for name in ARCHITECTURES:
        found = [(label, seen[f"{name}-{method}"]) for method, label in METHODS.items() if f"{name}-{method}" in seen]
        if found:
            tables.append(_panels(found, {"test_error": f"{TITLES[name]}: test error"}))
            tables += [_excess(label, run, f"{TITLES[name]}: {EXCESS}") for label, run in found]
    if not tables:
        return []
    flat = [f"{TITLES[name]}: {EXCESS}" for name in ARCHITECTURES]
    return [
        Figure(
            "minimizers",
            "The four architectures under several minimizers",
            "Means over seeds; shaded: their range. An epoch is one step of a full-batch method, and 100 steps of one "
            "sample. Dashed: the least trace of any interpolating network, without bias a lower bound.",
            seed_bands(pl.concat(tables), logarithmic=flat, expected=dict.fromkeys(flat, 1.0), columns=2),
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
        ("test error", f"d = {dim}", size / scale(dim), errors.min(), errors.mean(), errors.max())
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
            "Networks without bias under 1-SAM: test error against n/(d log d), means over seeds; shaded: "
            "their range. If d log d is the rate, the curves fall together.",
            seed_bands(table, x_title="n / (d log d)"),
        )
    ]


def _own(runs: Mapping[str, Record]) -> list[Figure]:
    rows = [
        ("SGD" if optimizer == "SGD" else f"SAM, ρ {optimizer.removeprefix('SAM')}", "", trace, 1 - accuracy)
        for optimizer, records in own_runs(runs).items()
        for trace, accuracy in ((last(r, "hessian_trace"), last(r, "accuracy", "test")) for r in records)
        if trace > 0 and accuracy >= 0
    ]
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["network", "method", "sharpness", "error"], orient="row")
    return [
        Figure(
            "own",
            "The network of your choice: did the test error follow?",
            "A point a seed at the end of training: trace of the Hessian and test error, by SGD and by SAM at several "
            "radii.",
            flatness_against_error(table),
        )
    ]
