"""The figures of the study `edge`."""

from __future__ import annotations

from edgescope.experiments.edge.curves import all_changes, losses, over_time, thresholds, two_eigenvalues
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import Runs
from edgescope.experiments.tables import intervals
from edgescope.experiments.threshold_series import ThresholdSeries
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

SETTLED_WITHIN = 0.10
"""Half the width of the region of the claims about settling, shaded in the picture."""


def edge_figures(runs: Runs) -> list[Figure]:
    """The figures of the report, those whose runs are there."""
    mlp, cnn = _runs(runs, method="gd", network="MLP"), _runs(runs, method="gd", network="CNN")
    rest = _runs(runs, method=("polyak", "nesterov", "rmsprop", "adam"))
    with_flow = {**mlp, **_runs(runs, method="flow")}
    diverged = [name for name, run in runs.items() if run.record.status == "diverged"]
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
                    over_time(with_flow, "sharpness", "1"),
                    thresholds(mlp),
                    x="time",
                    layout="together",
                    diverged=diverged,
                ),
            ),
            Figure(
                "loss",
                "The loss falls over long spans and rises in single steps",
                "Training loss at every step (band: smallest and largest value, where several steps share a point).",
                loss_curves(losses(with_flow), x="time", diverged=diverged, title="loss ½‖f − y‖²"),
            ),
        ]
    if cnn:
        figures.append(
            Figure(
                "sharpness-cnn",
                "The same for a convolutional network",
                "The two largest eigenvalues of the Hessian against steps; the second is drawn fainter. Dashed: 2/η.",
                eigenvalue_curves(two_eigenvalues(cnn), thresholds(cnn), diverged=diverged),
            )
        )
    if rest:
        figures.append(
            Figure(
                "optimizers",
                "Every optimizer arrives at its own threshold",
                "Effective sharpness, in the optimizer's own metric, over the threshold of the optimizer with its "
                "hyper-parameters. The band is 10% around 1.",
                ratio_curves(over_time(rest, "ratio").rename({"value": "ratio"}), diverged=diverged),
            )
        )
    settled = [ThresholdSeries.of(run) for run in (*mlp.values(), *cnn.values(), *rest.values())]
    if any(series.arrival is not None for series in settled):
        figures.append(
            Figure(
                "settled",
                "Where the runs settle",
                "Sharpness over threshold from the first arrival on: mean, and the range of the middle 80%. Shaded: "
                f"the {SETTLED_WITHIN:.0%} that the claims allow.",
                interval_dots(intervals(settled), expected=1.0, near=SETTLED_WITHIN),
            )
        )
    changes = all_changes({**mlp, **cnn})
    if not changes.is_empty():
        figures.append(
            Figure(
                "changes",
                "Directional smoothness predicts how each step changes the loss",
                "Loss change of single steps: measured, and predicted from Hessian products along the step alone.",
                predicted_against_measured(changes),
            )
        )
    for name, run in mlp.items():
        moments = spectra(run.record)[0]
        if not moments.is_empty():
            figures.append(
                Figure(
                    "spectrum",
                    "The spectrum before training, on the way, and at the edge",
                    f"Density of all eigenvalues of the Hessian, run {name}, by Lanczos quadrature, on a logarithmic "
                    "scale over six decades. Dashed: 2/η.",
                    spectral_ridge(moments, threshold=2.0 / float(run.record.config["lr"])),
                )
            )
    return figures


def _runs(runs: Runs, **tags: str | tuple[str, ...]) -> Runs:
    return {item.name: item.value for item in tagged(**tags)(runs)}
