"""The figures of the study `edge` about mini-batches, blocks and spikes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import polars as pl

from edgescope.experiments.edge.batch_runs import StepsOfRun, late_batch_sharpness, late_mean
from edgescope.experiments.edge.mini_batch_runs import FULL_BATCH, HEADROOM, MOMENTUM, SETTLING, SPIKE
from edgescope.experiments.edge.multiplier_runs import rules_against_one_rate
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.experiments.tables import series
from edgescope.figures import Figure, batch_size_curves, interval_dots, ratio_curves
from edgescope.report.run_report.blocks import block_figures
from edgescope.report.run_report.scalars import scalars_of
from edgescope.report.run_report.spikes import spike_figure
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean

WITHIN = 0.05
"""Half the width of the region of the claim about the batch sharpness, in units of 2/η."""

BATCH_QUANTITIES: dict[str, Callable[[StudyRun], Estimate]] = {
    "R, ratio of means": late_batch_sharpness,
    "mean of ratios": lambda run: late_mean(run, "batch_sharpness").scaled(float(run.tags["lr"])),
}
QUANTITIES = BATCH_QUANTITIES | {
    "λ_max, all data": lambda run: late_mean(run, "sharpness", "1").scaled(float(run.tags["lr"]))
}
"""What is drawn against the batch size, times the learning rate: those of mini-batches, and all."""


def mini_batch_figures(runs: Runs) -> list[Figure]:
    """The figures of the report, those whose runs are there."""
    found = [*_settling(_with_role(runs, SETTLING)), *_momentum(_with_role(runs, MOMENTUM))]
    found += [
        *_headroom(_with_role(runs, HEADROOM)),
        *_blocks(_with_role(runs, SETTLING)),
        *_spikes(runs),
        *_multipliers(runs),
    ]
    return found


def _with_role(runs: Runs, role: str) -> list[StudyRun]:
    return [item.value for item in tagged(role=role)(runs)]


def _problem(run: StudyRun) -> str:
    labels = "" if run.tags["labels"] == "true" else ", random labels"
    return f"{run.tags['network']}{labels}, η = {run.tags['lr']}"


def _settling(runs: Sequence[StudyRun]) -> list[Figure]:
    rows = []
    for panel in dict.fromkeys(map(_problem, runs)):
        group = [run for run in runs if _problem(run) == panel]
        sizes = {
            run.tags["batch"]: int(run.tags["samples" if run.tags["batch"] == FULL_BATCH else "batch"]) for run in group
        }
        for name, measured in QUANTITIES.items():
            for batch, size in sorted(sizes.items(), key=lambda each: each[1]):
                same = [run for run in group if run.tags["batch"] == batch]
                if batch == FULL_BATCH and name in BATCH_QUANTITIES:
                    continue
                mean = _over_seeds([measured(run) for run in same])
                rows.append((panel, name, size, mean.low, mean.value, mean.high))
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["panel", "quantity", "batch", "low", "middle", "high"], orient="row")
    figures = [
        Figure(
            "batch-sizes",
            "Sharpness and batch sharpness against the batch size",
            "Means over the second half of each run, with 95% intervals (over seeds where there are several), times "
            "the learning rate: the batch sharpness as ratio of means and as mean of ratios, and the largest "
            "eigenvalue of the Hessian of all data; the largest size is all data. Dashed: 2/η; shaded: the 5% that the "
            "claim allows.",
            batch_size_curves(table, expected=2.0, near=2 * WITHIN, name="2/η"),
        )
    ]
    first = [run for run in runs if run.tags["seed"] == runs[0].tags["seed"] and _problem(run) == _problem(runs[0])]
    batches = {f"R, batch {run.tags['batch']}": run for run in first if run.tags["batch"] != FULL_BATCH}
    whole = {f"λ_max, {_batch(run)}": run for run in first}
    curves = [("batch_sharpness", "weighted", batches), ("sharpness", "1", whole)]
    tables = [
        series({name: run.record for name, run in some.items()}, list(some), measure, part)
        for measure, part, some in curves
        if some
    ]
    ratio = pl.col("value") * float(first[0].tags["lr"]) / 2
    table = pl.concat(tables).select("run", "step", ratio=ratio)
    figures.append(
        Figure(
            "batch-settling",
            "How the batch sharpness and the sharpness approach 2/η",
            f"Both over 2/η, against the steps, of the runs with {_problem(first[0])}. The band is 10% around 1.",
            ratio_curves(table, title="curvature / (2/η)"),
        )
    )
    return figures


def _momentum(runs: Sequence[StudyRun]) -> list[Figure]:
    rows: list[tuple[str, float, float, float, str]] = []
    for run in runs:
        rate, momentum = float(run.tags["lr"]), float(run.tags["momentum"])
        name = f"{_batch(run)}, η = {run.tags['lr']}"
        if run.tags["batch"] != FULL_BATCH:
            batch = late_mean(run, "batch_sharpness").scaled(rate / (2 * (1 - momentum)))
            rows.append(_row(f"{name}: batch", batch, "batch sharpness over 2(1-β)/η"))
        whole = late_mean(run, "sharpness", "1").scaled(rate / (2 * (1 + momentum)))
        rows.append(_row(f"{name}: λ", whole, "λ_max over 2(1+β)/η"))
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["run", "low", "middle", "high", "group"], orient="row")
    return [
        Figure(
            "batch-momentum",
            "With momentum: batch sharpness and sharpness beside their plateaus",
            "Polyak momentum 0.9. Means over the second half of each run with 95% intervals: the batch sharpness over "
            "the plateau of small mini-batches, the largest eigenvalue over that of all data.",
            interval_dots(table, expected=1.0, near=0.1, title="curvature / plateau"),
        )
    ]


def _headroom(runs: Sequence[StudyRun]) -> list[Figure]:
    rows: list[tuple[str, float, float, float, str]] = []
    for run in runs:
        name = f"{run.tags['network']}, {run.tags['optimizer']}, η = {run.tags['lr']}" + (
            f", seed {run.tags['seed']}" if run.tags["seed"] != "0" else ""
        )
        rows.append(_row(f"{name}: all data", Estimate.exact(StepsOfRun.of(run).used), "on all data, weighted"))
        rows.append(_row(f"{name}: own batch", late_mean(run, "headroom", "ratio/batch"), "on the batch of the step"))
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["run", "low", "middle", "high", "group"], orient="row")
    return [
        Figure(
            "batch-headroom",
            "On all data a plateau looks like the edge; the batch of the step tells",
            "How much of its headroom a step uses, 1/s*, in the second half of each run with mini-batches of 8: 1 is "
            "the edge. On all data the mean weighted with -g·d, from the changes of the loss; on its own batch the "
            "mean.",
            interval_dots(table, expected=1.0, near=0.1, title="share of the headroom used, 1/s*"),
        )
    ]


def _blocks(runs: Sequence[StudyRun]) -> list[Figure]:
    """Of the first run on all data."""
    whole = [run for run in runs if run.tags["batch"] == FULL_BATCH][:1]
    return [
        figure for run in whole for figure, _ in block_figures(scalars_of(run.name, run.record.pieces()), [run.name])
    ]


def _spikes(runs: Runs) -> list[Figure]:
    found = (spike_figure(run.name, run.record) for run in _with_role(runs, SPIKE))
    return [figure for figure in found if figure is not None][:1]


def _multipliers(runs: Runs) -> list[Figure]:
    rows = []
    for item in rules_against_one_rate(runs):
        rows.append(_row(item.name, item.value.ratio, item.factors["rule"]))
    if not any(math.isfinite(row[2]) for row in rows):
        return []
    table = pl.DataFrame(rows, schema=["run", "low", "middle", "high", "group"], orient="row")
    return [
        Figure(
            "block-rates",
            "Learning rates by layer, from the layers' sharpness, against one learning rate",
            "Training loss at the end over that with one learning rate, each at the best of the same learning rates; "
            "geometric means over seeds with 95% intervals. Below 1 multipliers train faster. The multiplier of a "
            "layer is 1/λ or 1/√λ of its largest eigenvalue.",
            interval_dots(table, expected=1.0, title="final loss / that with one rate"),
        )
    ]


def _over_seeds(means: Sequence[Estimate]) -> Estimate:
    return means[0] if len(means) == 1 else sample_mean([mean.value for mean in means])


def _row(name: str, mean: Estimate, group: str) -> tuple[str, float, float, float, str]:
    low, high = (mean.value, mean.value) if math.isnan(mean.low) else (mean.low, mean.high)
    return name, low, mean.value, high, group


def _batch(run: StudyRun) -> str:
    return "all data" if run.tags["batch"] == FULL_BATCH else f"batch {run.tags['batch']}"
