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
from edgescope.store import Record
from edgescope.studies.edge.claims import SETTLED, changes
from edgescope.studies.seen import Seen
from edgescope.studies.tables import intervals, series, spectra, times


def edge_figures(runs: dict[str, Record]) -> list[Figure]:
    mlp = [name for name in runs if name.startswith("GD")]
    cnn = [name for name in runs if name.startswith("CNN")]
    rest = [name for name in runs if name not in (*mlp, *cnn, "flow")]
    flow = [name for name in runs if name == "flow"]
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
    seen = [Seen.of(name, record) for name, record in runs.items() if name != "flow"]
    figures.append(
        Figure(
            "settled",
            "Where the runs settle",
            f"Sharpness over threshold from the first arrival on: mean, and the range of the middle 80%. Shaded: the "
            f"{SETTLED:.0%} that the claims allow.",
            interval_dots(intervals(seen), expected=1.0, near=SETTLED),
        )
    )
    compared = changes({name: Seen.of(name, runs[name]) for name in mlp + cnn})
    if not compared.is_empty():
        figures.append(
            Figure(
                "changes",
                "Directional smoothness predicts how each step changes the loss",
                "Loss change of single steps: measured, and predicted from Hessian products along the step alone.",
                predicted_against_measured(compared.select("run", "predicted", "measured")),
            )
        )
    for name in mlp:
        moments = spectra(runs[name])
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
