"""The pictures of the study `edge`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from edgescope.figures import (
    Figure,
    eigenvalue_curves,
    interval_dots,
    loss_curves,
    predicted_against_measured,
    ratio_curves,
    spectral_ridge,
)
from edgescope.report.run_report.arrays import spectra
from edgescope.store import Record
from edgescope.studies.edge.loss_changes import changes
from edgescope.studies.selection import tagged
from edgescope.studies.study_run import Runs
from edgescope.studies.tables import intervals, series, times
from edgescope.studies.threshold_series import ThresholdSeries

SETTLED_WITHIN = 0.10
"""Half the width of the region of the claims about settling, shaded in the picture."""


def edge_figures(of_study: Runs) -> list[Figure]:
    """The figures of the report, those whose runs are there."""
    runs = {name: run.record for name, run in of_study.items()}
    mlp = _named(of_study, method="gd", network="MLP")
    cnn = _named(of_study, method="gd", network="CNN")
    rest = _named(of_study, method=("polyak", "nesterov", "rmsprop", "adam"))
    flow = _named(of_study, method="flow")
    diverged = [name for name, record in runs.items() if record.status == "diverged"]
    figures = []
    if mlp:
        figures += [
            Figure(
                "sharpness",
                "Sharpness rises to the threshold of each learning rate and stays",
                "Largest eigenvalue of the Hessian of the training loss against time (learning rate times steps), so "
                "that gradient flow and runs with different rates lie over each other. Dashed: 2/η of each run. The "
                "fully connected network.",
                eigenvalue_curves(
                    _over_time(runs, mlp + flow, "sharpness", "1"),
                    _thresholds(runs, mlp),
                    x="time",
                    layout="together",
                    diverged=diverged,
                ),
            ),
            Figure(
                "loss",
                "The loss falls over long spans and rises in single steps",
                "Training loss at every step (band: smallest and largest value, where several steps share a point).",
                loss_curves(_losses(runs, mlp + flow), x="time", diverged=diverged, title="loss ½‖f − y‖²"),
            ),
        ]
    if cnn:
        figures.append(
            Figure(
                "sharpness-cnn",
                "The same for a convolutional network",
                "The two largest eigenvalues of the Hessian against steps; the second is drawn fainter. Dashed: 2/η.",
                eigenvalue_curves(_eigenvalues(runs, cnn), _thresholds(runs, cnn), diverged=diverged),
            )
        )
    if rest:
        figures.append(
            Figure(
                "optimizers",
                "Every optimizer arrives at its own threshold",
                "Effective sharpness, in the optimizer's own metric, over the threshold of the optimizer with its "
                "hyper-parameters. The band is 10% around 1.",
                ratio_curves(_over_time(runs, rest, "ratio", "").rename({"value": "ratio"}), diverged=diverged),
            )
        )
    settled = [ThresholdSeries.of(of_study[name]) for name in (*mlp, *cnn, *rest)]
    figures.append(
        Figure(
            "settled",
            "Where the runs settle",
            f"Sharpness over threshold from the first arrival on: mean, and the range of the middle 80%. Shaded: the "
            f"{SETTLED_WITHIN:.0%} that the claims allow.",
            interval_dots(intervals(settled), expected=1.0, near=SETTLED_WITHIN),
        )
    )
    compared = _changes(of_study, mlp + cnn)
    if not compared.is_empty():
        figures.append(
            Figure(
                "changes",
                "Directional smoothness predicts how each step changes the loss",
                "Loss change of single steps: measured, and predicted from Hessian products along the step alone.",
                predicted_against_measured(compared),
            )
        )
    for name in mlp:
        moments = spectra(runs[name])[0]
        if not moments.is_empty():
            figures.append(
                Figure(
                    "spectrum",
                    "The spectrum before training, on the way, and at the edge",
                    f"Density of all eigenvalues of the Hessian, run {name}, by Lanczos quadrature, on a logarithmic "
                    "scale over six decades. Dashed: 2/η.",
                    spectral_ridge(moments, threshold=2.0 / float(runs[name].config["lr"])),
                )
            )
    return figures


def _named(runs: Runs, **tags: str | tuple[str, ...]) -> list[str]:
    return [item.name for item in tagged(**tags)(runs)]


def _changes(runs: Runs, names: Sequence[str]) -> pl.DataFrame:
    """Loss changes of single steps, predicted and measured: run, predicted, measured."""
    found = [(name, table) for name in names if (table := changes(runs[name])) is not None]
    tables = [table.select(pl.lit(name).alias("run"), "predicted", "measured") for name, table in found]
    return pl.concat(tables) if tables else pl.DataFrame()


def _over_time(runs: dict[str, Record], names: Sequence[str], measure: str, part: str) -> pl.DataFrame:
    """One series of several runs: run, step, time, value."""
    clocks = pl.concat([times(runs[name]).with_columns(run=pl.lit(name)) for name in names])
    return series(runs, names, measure, part).join(clocks, on=["run", "step"])


def _eigenvalues(runs: dict[str, Record], names: Sequence[str]) -> pl.DataFrame:
    tables = []
    for name in names:
        for k in (1, 2):
            steps, values = runs[name].series("sharpness", str(k))
            tables.append(
                pl.DataFrame({"run": [name] * len(steps), "step": steps, "value": values, "k": [k] * len(steps)})
            )
    return pl.concat(tables)


def _losses(runs: dict[str, Record], names: Sequence[str]) -> pl.DataFrame:
    parts = []
    for name in names:
        steps, loss = runs[name].series("training_loss")
        known = times(runs[name])
        time = np.interp(steps, known["step"].to_numpy(), known["time"].to_numpy())
        parts.append(pl.DataFrame({"run": [name] * len(steps), "time": time, "loss": loss}))
    return pl.concat(parts)


def _thresholds(runs: dict[str, Record], names: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame({"run": list(names), "threshold": [2.0 / float(runs[n].config["lr"]) for n in names]})
