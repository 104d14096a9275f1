"""The figures of the study `geometries`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from edgescope.experiments.geometries.descents import DescentRun, descents
from edgescope.experiments.selection import run_tagged, tagged
from edgescope.experiments.study_run import Runs
from edgescope.experiments.tables import intervals, series
from edgescope.figures import Figure, bracket_curves, interval_dots, loss_curves, ratio_curves
from edgescope.studies.sources import CHEN

NETWORKS = {
    "MLP": "the fully connected network",
    "MLP-50k": "the fully connected network, all images",
    "CNN": "the convolutional network",
    "ResNet": "the residual network",
    "GPT": "the character transformer",
}

SHOWN = 50.0
"""A quadratic model is drawn until its loss is this many times that of the point it was taken at."""


def geometry_figures(runs: Runs) -> list[Figure]:
    """The figures of the report, those whose runs are there."""
    networks = {
        key: [item.value for item in descents(network=key)(runs) if item.value.sharpness.ratio.size] for key in NETWORKS
    }
    networks = {key: found for key, found in networks.items() if found}
    figures = [_brackets(key, found) for key, found in networks.items()]
    if networks:
        figures.append(_settled([run for found in networks.values() for run in found]))
    for draw in (_plain, _losses, _ahead):
        figures += [figure for key, found in networks.items() for figure in draw(key, found)]
    return [*figures, *_forgetting(runs), *_chen(runs), *_quadratics(runs)]


def _brackets(key: str, found: list[DescentRun]) -> Figure:
    sharpness, smoothness = [], []
    for run in found:
        lower = pl.DataFrame({"step": run.sharpness.steps, "lower": run.sharpness.ratio})
        upper = pl.DataFrame(dict(zip(("step", "upper"), run.upper, strict=True)))
        sharpness.append(lower.join(upper, on="step", how="left").with_columns(run=pl.lit(run.method)))
        steps = {"step": run.smoothness.steps, "value": run.smoothness.ratio}
        smoothness.append(pl.DataFrame(steps).with_columns(run=pl.lit(run.method)))
    return Figure(
        f"sharpness-{key.lower()}",
        f"Every geometry has its own edge: {NETWORKS[key]}",
        "Generalized sharpness S in the method's own norm (dark line: the value from below; shade: up to the "
        "certificate) and directional smoothness D of the steps (light; shade: range of the steps that share a point), "
        "over the threshold: 2/η, for normalized methods 2|g|*/η. What lies above 3 is cut off.",
        bracket_curves(pl.concat(sharpness), pl.concat(smoothness)),
    )


def _settled(every: list[DescentRun]) -> Figure:
    tables = []
    for symbol, of in (("S", lambda run: run.sharpness), ("D", lambda run: run.smoothness)):
        tables.append(intervals(of(run) for run in every).with_columns(group=pl.lit(symbol)))
    both = pl.concat(tables).with_columns(pl.col("run") + " " + pl.col("group"))
    order = [f"{run.name} {symbol}" for run in every for symbol in ("S", "D")]
    both = pl.DataFrame({"run": order}).join(both, on="run", how="left", maintain_order="left")
    both = both.with_columns(pl.col("group").fill_null("S"))
    return Figure(
        "settled",
        "Where sharpness and smoothness settle",
        "S (from below) and D over the threshold, from their first crossing on: mean, and the range of the middle 80%. "
        "Shaded: 10% around 1.",
        interval_dots(both, expected=1.0, near=0.1, title="S, D / threshold"),
    )


def _plain(key: str, found: list[DescentRun]) -> Iterator[Figure]:
    records = {run.method: run.record for run in found if not run.normalized}
    if not records:
        return
    half_rates = {method: float(record.config["lr"]) / 2 for method, record in records.items()}
    table = series(records, list(records), "sharpness", "1").with_columns(
        ratio=pl.col("value") * pl.col("run").replace_strict(half_rates, return_dtype=pl.Float64)
    )
    yield Figure(
        f"plain-{key.lower()}",
        f"The plain eigenvalue is no guide in other norms: {NETWORKS[key]}",
        "Largest eigenvalue of the Hessian over 2/η. Only under gradient descent does it have to settle at 1.",
        ratio_curves(table.drop("value"), title="λ / (2/η)"),
    )


def _losses(key: str, found: list[DescentRun]) -> Iterator[Figure]:
    records = {run.method: run.record for run in found}
    diverged = [method for method, record in records.items() if record.status == "diverged"]
    title = "loss, cross-entropy" if found[0].record.config["loss"] == "cross-entropy" else "loss ½‖f − y‖²"
    table = series(records, list(records), "training_loss").rename({"value": "loss"})
    yield Figure(
        f"loss-{key.lower()}",
        f"Training losses of {NETWORKS[key]}",
        "At every step (band: smallest and largest value, where several steps share a point).",
        loss_curves(table, diverged=diverged, title=title),
    )


def _ahead(key: str, found: list[DescentRun]) -> Iterator[Figure]:
    tables = []
    for run in found:
        if not run.ends_at_edge or run.normalized or np.isnan(run.ahead[0]):
            continue
        for part in ("network", "model"):
            losses = run.record.array(run.record.last_step or 0, "quadratic_model", part)
            shown = np.arange(len(losses)) < _first_beyond(losses, SHOWN * abs(losses[0]))
            table = {"step": np.arange(len(losses))[shown], "loss": losses[shown] / losses[0]}
            tables.append(pl.DataFrame(table).with_columns(run=pl.lit(run.method), split=pl.lit(part)))
    if not tables:
        return
    yield Figure(
        f"model-{key.lower()}",
        f"The quadratic model diverges where the network does not: {NETWORKS[key]}",
        "Loss ahead of the last point of each run that ended at its edge, over the loss there: on the network "
        "(solid), and on the quadratic model of the loss at that point (dashed), under the same steps.",
        loss_curves(pl.concat(tables), title="loss / loss at the start", pair=("network", "model")),
    )


def _first_beyond(losses: np.ndarray, limit: float) -> int:
    beyond = np.flatnonzero(~(np.abs(losses) <= limit))
    return int(beyond[0]) if beyond.size else len(losses)


def _forgetting(runs: Runs) -> Iterator[Figure]:
    records = {item.name: item.value.record for item in tagged(role="rmsprop")(runs)}
    if not records:
        return
    table = series(records, list(records), "ratio").rename({"value": "loss"})
    yield Figure(
        "rmsprop",
        "The preconditioner's account of stability fails as RMSProp forgets",
        "Effective sharpness in the metric of RMSProp's preconditioner over 2/η, for memories β₂ from 0.99 to 0. "
        "An account of stability would keep it at 1.",
        loss_curves(table, title="effective sharpness / threshold"),
    )


def _chen(runs: Runs) -> Iterator[Figure]:
    records = {item.name: item.value.record for item in tagged(role="chen")(runs)}
    if not records:
        return
    table = series(records, list(records), "directional_smoothness", "ratio").rename({"value": "ratio"})
    yield Figure(
        "chen",
        "Normalized Spectral descent at η = 0.007",
        f"s over 2/η at every step: directional smoothness over the nuclear norm of the gradient. {CHEN}.",
        ratio_curves(table, title="s / (2/η)"),
    )


def _quadratics(runs: Runs) -> Iterator[Figure]:
    run = run_tagged(runs, role="quadratics")
    if run is None:
        return
    record = run.record
    parts = sorted({p for p in record.table()["part"].drop_nulls() if p.startswith("above/") and p.endswith("/0")})
    tables = []
    for part in parts:
        geometry = part.split("/")[1]
        for kind, split in (("above", "η 2% above 2/S: norm"), ("below", "η 2% below: loss")):
            steps, values = record.series("quadratic", f"{kind}/{geometry}/0")
            table = pl.DataFrame({"step": steps, "loss": values}).filter(pl.col("loss") > 1e-12)
            tables.append(table.with_columns(run=pl.lit(geometry), split=pl.lit(split)))
    yield Figure(
        "quadratics",
        "On a quadratic the edge is exact",
        "Norm of the iterate over that of its start on the maximiser's line (solid, η 2% above 2/S), and loss over "
        "that of a random start (dashed, η 2% below 2/S), for one random form.",
        loss_curves(pl.concat(tables), title="over the start", pair=("η 2% above 2/S: norm", "η 2% below: loss")),
    )
