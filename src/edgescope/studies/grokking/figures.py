"""The figures of the study `grokking`."""

from __future__ import annotations

import numpy as np
import polars as pl

from edgescope.experiments.grokking.runs import MOMENTUM
from edgescope.experiments.grokking.training_curves import TrainingCurves
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure, spectral_ridge, stacked_panels
from edgescope.report.run_report.arrays import spectra

PANELS = {
    "training accuracy": "train",
    "test accuracy": "test",
    "dimension": "SD",
    "RDS sharpness": "RDS sharpness",
    "sharpness": "largest eigenvalue",
    "trace": "trace",
    "lifetime sum": "lifetime sum",
    "learning coefficient": "learning coefficient",
    "norm": "norm",
}


def grokking_figures(runs: Runs) -> list[Figure]:
    """The figures of the report: one a run, and the spectra of the first run that has them."""
    figures = []
    for name, of_study in runs.items():
        run = TrainingCurves.of(of_study)
        rows = []
        for panel, key in PANELS.items():
            values = {"train": run.train, "test": run.test}.get(key, run.measures.get(key, np.array([])))
            if np.isfinite(values).any():
                rows.append(pl.DataFrame({"panel": panel, "run": name, "step": run.steps, "value": values}))
        jump = {"jump": float(run.steps[run.jump])} if run.grokked else {}
        figures.append(
            Figure(
                f"training-{_file(name)}",
                f"Accuracies and measures over training: {name}",
                "All of one run, at evenly spaced steps. Dashed: where the test accuracy rises most."
                if jump
                else "All of one run, at evenly spaced steps. The test accuracy does not jump.",
                stacked_panels(pl.concat(rows), marks=jump),
            )
        )
    for name, of_study in runs.items():
        record = of_study.record
        table = spectra(record)[0]
        if not table.is_empty():
            threshold = 2 * (1 + MOMENTUM) / float(record.config["lr"])
            figures.append(
                Figure(
                    f"spectra-{_file(name)}",
                    f"The spectrum over training: {name}",
                    "Density of the eigenvalues of the Hessian, logarithmic over six decades, one moment above the "
                    "other. Dashed: the threshold (2 + 2β)/η.",
                    spectral_ridge(table, threshold=threshold),
                )
            )
            break
    return figures


def _file(name: str) -> str:
    return name.lower().replace(".", "_")
