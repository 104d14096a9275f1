"""The report of runs that belong to no study: what was measured, drawn, without verdicts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from edgescope.errors import RecordError
from edgescope.figures import Figure, eigenvalue_curves, loss_curves, ratio_curves, spectral_ridge
from edgescope.report import write_report
from edgescope.store import Record
from edgescope.studies.study import run_row, total_cost, versions_of
from edgescope.studies.tables import spectra

FILE = "record.sqlite"


def report_runs(folder: Path) -> Path:
    """Write the report of the run in ``folder``, or of all runs below it, and give its path.

    Raises :class:`RecordError` where there is no record, or a broken one.
    """
    paths = [folder] if (folder / FILE).exists() else sorted(path.parent for path in folder.rglob(FILE))
    if not paths:
        raise RecordError(f"{folder} holds no record", expected="the folder of a study, of a run, or of several runs")
    with ExitStack() as stack:
        records = {
            folder.resolve().name if path == folder else path.relative_to(folder).as_posix(): stack.enter_context(
                Record.open(path)
            )
            for path in paths
        }
        return write_report(
            folder,
            title=f"Training run {next(iter(records))}" if len(records) == 1 else f"{len(records)} training runs",
            abstract="What was measured on the way, drawn from the record.",
            paper="",
            findings=None,
            figures=list(run_figures(records)),
            runs=[run_row(name, record) for name, record in records.items()],
            cost=total_cost(records.values()),
            versions=versions_of(next(iter(records.values()))),
            command=next(iter(records.values())).info.get("command") or f"edgescope report {shlex.quote(str(folder))}",
        )


def run_figures(records: dict[str, Record]) -> Iterator[Figure]:
    """Loss, eigenvalues beside the threshold, ratio to it, and norms: those of them that the runs measured."""
    diverged = [name for name, record in records.items() if record.status == "diverged"]
    table = pl.concat(
        record.table().select(pl.lit(name).alias("run"), "step", "measure", "part", "value").drop_nulls("value")
        for name, record in records.items()
    )

    def of(measure: str, *parts: str, **columns: str) -> pl.DataFrame:
        found = table.filter(pl.col("measure") == measure, pl.col("part").is_in(parts) if parts else True)
        return found.select("run", "step", **columns)

    def measured(values: pl.Series) -> bool:
        return bool(values.is_finite().any())

    loss = of("loss", "train", "test", loss="value", split="part")
    if measured(loss["loss"].filter(loss["loss"] > 0)):
        yield Figure(
            "loss",
            "Loss",
            "The mean loss over all training samples, and over the test samples where there are some.",
            loss_curves(loss, diverged=diverged),
        )
    sharpness, thresholds = of("sharpness", value="value", k="part"), _euclidean_thresholds(table)
    if measured(sharpness["value"]):
        yield Figure(
            "eigenvalues",
            "Largest eigenvalues of the Hessian",
            "The largest eigenvalues of the Hessian of the training loss; dashed: the threshold, where the optimizer "
            "has no metric of its own, so that the two can be compared.",
            eigenvalue_curves(sharpness, None if thresholds.is_empty() else thresholds, diverged=diverged),
        )
    ratio = of("ratio", "", ratio="value")
    if measured(ratio["ratio"]):
        yield Figure(
            "ratio",
            "Sharpness over threshold",
            "The largest eigenvalue of the effective Hessian, in the optimizer's own metric, over its stability "
            "threshold: 1 is the edge of stability.",
            ratio_curves(ratio, diverged=diverged),
        )
    norm = of("norms", "l2", value="value")
    if measured(norm["value"]):
        yield Figure(
            "norm",
            "Norm of the parameters",
            "The Euclidean norm of all parameters.",
            # Drawn as eigenvalues are: one value a step and run on a linear axis.
            eigenvalue_curves(norm, layout="together", diverged=diverged, title="norm of the parameters |w|"),
        )
    for number, (name, record) in enumerate(records.items(), 1):
        moments = spectra(record)
        if not moments.is_empty():
            known = thresholds.filter(run=name)["threshold"]
            yield Figure(
                f"spectrum-{number}",
                f"The spectrum over training: {name}",
                "Density of the eigenvalues of the Hessian, logarithmic over six decades, one moment above the other; "
                "dashed: the last threshold, where it can be compared.",
                spectral_ridge(moments, threshold=known[-1] if len(known) else None),
            )


def _euclidean_thresholds(table: pl.DataFrame) -> pl.DataFrame:
    """The thresholds of those runs whose sharpness is the effective one: others' are in another unit."""
    raw = table.filter(measure="sharpness", part="1").select("run", "step", raw="value")
    effective = table.filter(measure="effective_sharpness", part="").select("run", "step", effective="value")
    same = raw.join(effective, on=["run", "step"]).group_by("run").agg((pl.col("raw") == pl.col("effective")).all())
    plain = same.filter("raw").select("run")
    return table.filter(measure="threshold").select("run", "step", threshold="value").join(plain, on="run", how="semi")
