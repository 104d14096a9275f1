"""The figures of the study `central`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from edgescope.experiments.central.compared_run import ComparedRun, compared
from edgescope.experiments.central.flow_task import OPTIMIZER
from edgescope.experiments.central.followed_flow import CENTRAL, CORRECTED, MULTIPLIER, STABLE, TWO_POINT
from edgescope.experiments.central.gap_terms import MeanGap
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure, block_means, flow_panels, interval_dots, series_panels

EUCLIDEAN = ("gd", "momentum", "rmsprop")
NORMS = ("linf", "sign", "spectral")

SMOOTHED = 10
"""Steps of the blocks over which the values of iterates are averaged for a line."""

LEAD = 0.05
"""The share of the time at the threshold that the picture of the losses shows before it."""

WORDS = {
    OPTIMIZER: "optimizer, mean of 10 steps",
    f"{CENTRAL}/predicted": "predicted mean",
    CENTRAL: "central flow",
    CORRECTED: "corrected central flow",
    STABLE: "stable flow",
    TWO_POINT: "two-point flow",
    f"{TWO_POINT}/predicted": "predicted mean",
    MULTIPLIER: "multiplier hypothesis",
}
"""The lines by the part of a reading."""


def central_figures(runs: Runs) -> list[Figure]:
    """The figures of the report, those whose runs are there."""
    euclidean = [item.value for item in compared(method=EUCLIDEAN)(runs) if item.value.start is not None]
    norms = [item.value for item in compared(method=NORMS)(runs) if item.value.start is not None]
    figures: list[Figure] = []
    if euclidean:
        figures += [_loss(euclidean), _sharpness(euclidean), _gradient_square(euclidean), *_covariance(euclidean)]
        figures += [_distance(euclidean), *_preconditioner(euclidean)]
    if norms:
        figures += [_loss_in_norms(norms), _distance_in_norms(norms), *_locked(norms)]
    return [*figures, *_gaps(runs)]


def _rows(
    runs: Sequence[ComparedRun], measure: str, parts: Sequence[str], words: Mapping[str, str] = WORDS
) -> pl.DataFrame:
    """panel, run, step, value of some parts of a measure, those that the runs have."""
    tables = [pl.DataFrame(schema={"panel": pl.String, "run": pl.String, "step": pl.Float64, "value": pl.Float64})]
    for run in runs:
        for part in parts:
            steps, values = run.series(measure, part)
            table = pl.DataFrame({"step": steps.astype(float), "value": values})
            tables.append(table.select(panel=pl.lit(run.name), run=pl.lit(words[part]), step="step", value="value"))
    return pl.concat(tables)


def _with_means(runs: Sequence[ComparedRun], measure: str, parts: Sequence[str]) -> pl.DataFrame:
    """The block means of the optimizer, and the flows."""
    return pl.concat([block_means(_rows(runs, measure, [OPTIMIZER]), SMOOTHED), _rows(runs, measure, parts)])


def _loss(runs: Sequence[ComparedRun]) -> Figure:
    """From shortly before the sharpness reaches its threshold, since the loss falls by decades before."""
    flow, predicted = (_rows(runs, "flow_loss", [part]) for part in (CENTRAL, f"{CENTRAL}/predicted"))
    both = flow.join(predicted.select("panel", "step", predicted="value"), on=["panel", "step"])
    band = both.filter(pl.col("predicted") > pl.col("value")).select(
        "panel", "step", low="value", high=2 * pl.col("predicted") - pl.col("value")
    )
    critical = both.filter(pl.col("predicted") > pl.col("value")).group_by("panel").agg(first=pl.col("step").min())
    ends = flow.group_by("panel").agg(last=pl.col("step").max())
    begin = ends.join(critical, on="panel", how="left").with_columns(pl.col("first").fill_null(0.0))
    begin = begin.select("panel", begin=pl.col("first") - LEAD * (pl.col("last") - pl.col("first")))

    def shown(table: pl.DataFrame) -> pl.DataFrame:
        late = table.join(begin, on="panel", maintain_order="left").filter(pl.col("step") >= pl.col("begin"))
        return late.drop("begin")

    return Figure(
        "loss",
        "The loss of an oscillating optimizer, its predicted mean, and the loss without oscillation",
        "Thin grey: losses of the iterates. Shaded: the band of oscillation around the central flow, from its own loss "
        "L to L + tr(HΣ), whose middle is the predicted mean. From shortly before the threshold on; a panel a run.",
        flow_panels(
            shown(_with_means(runs, "flow_loss", [f"{CENTRAL}/predicted", STABLE])),
            band=band,
            iterates=shown(_rows(runs, "flow_loss", [OPTIMIZER])),
            title="loss ½‖f − y‖²",
        ),
    )


def _sharpness(runs: Sequence[ComparedRun]) -> Figure:
    words = WORDS | {OPTIMIZER: "averaged trajectory"}
    table = _rows(runs, "flow_sharpness", [OPTIMIZER, CENTRAL, STABLE], words)
    highest = min(2.0, float(table["value"].max()) + 0.05)  # type: ignore[arg-type]
    return Figure(
        "sharpness",
        "The averaged trajectory stays at the threshold, the stable flow does not",
        "Largest eigenvalue in the metric of the optimizer over its threshold (for gradient descent Sη/2), at the "
        "means of three iterates and along the flows.",
        flow_panels(table, title="sharpness / threshold", logarithmic=False, expected=1.0, zoom=(0.5, highest)),
    )


def _gradient_square(runs: Sequence[ComparedRun]) -> Figure:
    return Figure(
        "gradient-square",
        "The squared gradient norm is nearly all oscillation",
        "‖∇L‖² at the iterates (thin grey, and the mean of 10 steps), predicted by the central flow, and on the stable "
        "flow.",
        flow_panels(
            _with_means(runs, "flow_gradient_square", [f"{CENTRAL}/predicted", STABLE]),
            iterates=_rows(runs, "flow_gradient_square", [OPTIMIZER]),
            title="‖∇L‖²",
        ),
    )


def _covariance(runs: Sequence[ComparedRun]) -> Iterator[Figure]:
    first = f"{CENTRAL}/1"
    words = {first: "measured, mean of 10 steps", f"{first}/predicted": "predicted"}
    measured = _rows(runs, "flow_variance", [first], words)
    if measured.is_empty():
        return
    table = pl.concat([block_means(measured, SMOOTHED), _rows(runs, "flow_variance", [f"{first}/predicted"], words)])
    table = table.filter(pl.col("value") > 0)  # Σ is zero just after its direction became critical
    yield Figure(
        "covariance",
        "How far the iterates are from the central flow, along the first axis of their covariance",
        "(v'P(w_t − w(t)))² along the first axis v of Σ, and the eigenvalue of Σ that predicts its mean. In the metric "
        "P: for gradient descent 1/η times the squared length.",
        flow_panels(table, title="variance"),
    )


def _distance(runs: Sequence[ComparedRun]) -> Figure:
    parts = [STABLE, CENTRAL, CORRECTED]
    tables = []
    for measure, where in (("flow_distance", "weights"), ("flow_output_distance", "test outputs")):
        rows = _rows(runs, measure, parts)
        tables.append(rows.with_columns(pl.col("panel") + f": {where}"))
    return Figure(
        "distance",
        "Distance of the flows from the averaged trajectory",
        "In weights (Euclidean) and in the outputs on the test images (root mean square). Euler steps a unit of time: "
        + "; ".join(_steps_of(run) for run in runs)
        + ".",
        flow_panels(_in_order(pl.concat(tables)), title="distance"),
    )


def _in_order(table: pl.DataFrame) -> pl.DataFrame:
    """Panels of one run beside each other."""
    return table.with_columns(own=pl.col("panel").str.split(": ").list.first()).sort(
        pl.col("own").rank("dense"), maintain_order=True
    )


def _steps_of(run: ComparedRun) -> str:
    flows = run.run.record.config["flows"]
    return f"{run.name} " + ", ".join(f"{WORDS[name]} {substeps}" for name, substeps in flows.items())


def _preconditioner(runs: Sequence[ComparedRun]) -> Iterator[Figure]:
    words = WORDS | {OPTIMIZER: "optimizer"}
    table = _rows(runs, "flow_preconditioner", [OPTIMIZER, CENTRAL, STABLE], words)
    if table.is_empty():
        return
    yield Figure(
        "preconditioner",
        "The oscillation makes the preconditioner of RMSProp",
        "Σ√ν over all parameters: of the optimizer, of the central flow, and of the stable flow.",
        flow_panels(table, title="Σ√ν"),
    )


def _loss_in_norms(runs: Sequence[ComparedRun]) -> Figure:
    flows = _rows(runs, "flow_loss", [f"{TWO_POINT}/predicted", STABLE])
    iterates = _rows(runs, "flow_loss", [OPTIMIZER]).join(flows.select("panel", "step").unique(), on=["panel", "step"])
    return Figure(
        "loss-norms",
        "Other norms: the mean loss of both points predicts that of the optimizer",
        "From the edge on. Thin grey: losses of the iterates.",
        flow_panels(pl.concat([block_means(iterates, SMOOTHED), flows]), iterates=iterates, title="loss ½‖f − y‖²"),
    )


def _distance_in_norms(runs: Sequence[ComparedRun]) -> Figure:
    return Figure(
        "distance-norms",
        "Other norms: distance of the flows from the averaged trajectory",
        "In weights, from the edge on. The multiplier hypothesis is that of the Euclidean central flow carried over to "
        "Linf.",
        flow_panels(_rows(runs, "flow_distance", [STABLE, TWO_POINT, MULTIPLIER]), title="distance", logarithmic=False),
    )


def _locked(runs: Sequence[ComparedRun]) -> Iterator[Figure]:
    found = [run for run in runs if run.run.tags["method"] in ("linf", "sign")]
    tables = []
    for run in found:
        steps, values = run.series("locked")
        table = pl.DataFrame({"step": steps.astype(float) - (run.start or 0), "value": values})
        tables.append(table.select(panel=pl.lit("locked"), run=pl.lit(run.name), step="step", value="value"))
    if not tables or all(table.is_empty() for table in tables):
        return
    yield Figure(
        "locked",
        "In Linf the oscillation locks most coordinates",
        "Share of coordinates whose gradient has the opposite sign of the step before, by steps from the edge on.",
        series_panels(pl.concat(tables), titles={"locked": "share of coordinates"}, logarithmic=False),
    )


def _gaps(runs: Runs) -> Iterator[Figure]:
    rows = []
    for item in tagged(kind="gap")(runs):
        run = item.value
        found = MeanGap.of(run)
        for word, mean in (("measured", found.measured), ("formula", found.formula)):
            if np.isfinite(mean.value):
                low, high = (mean.low, mean.high) if mean.known else (mean.value, mean.value)
                rows.append((f"{run.tags['group']}, {run.tags['batch']}: {word}", low, mean.value, high, word))
    if rows:
        table = pl.DataFrame(rows, schema=["run", "low", "middle", "high", "group"], orient="row")
        yield Figure(
            "gap",
            "How far below 2/η the sharpness stays under mini-batches",
            "2/η − S at means of 25 iterates, on all data, a half and a quarter of it, and by the formula: mean over "
            "time with its 95% interval, where there is one.",
            interval_dots(table, expected=0.0, near=0.0, title="2/η − S"),
        )
