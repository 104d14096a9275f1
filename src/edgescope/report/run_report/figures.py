"""The figures of runs: every number that they recorded, over the steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from edgescope.figures import (
    Figure,
    Mark,
    eigenvalue_curves,
    look,
    loss_curves,
    marked,
    ratio_curves,
    series_panels,
)
from edgescope.figures.chart import Chart
from edgescope.figures.series import log_helps
from edgescope.report.run_report.arrays import array_figures
from edgescope.report.run_report.blocks import block_figures
from edgescope.report.run_report.events import marks_of
from edgescope.report.run_report.more import other_figures
from edgescope.report.run_report.optimizers import group_names
from edgescope.report.run_report.scalars import About, about, described, scalars_of
from edgescope.report.run_report.spikes import spike_figure
from edgescope.report.run_report.thresholds import plain_thresholds
from edgescope.store import Record

MOST_RUNS = len(look.PALETTE) * len(look.SHAPES)
"""Runs in one picture: as many as have a colour and a shape of their own."""

BURSTS = 5.0
"""A ratio beyond this would press the neighbourhood of 1 to the ground of a linear axis."""

ALL_OPTIMIZERS = "all optimizers together"


def run_figures(
    records: Mapping[str, Record], table: pl.DataFrame | None = None, arrays: bool = True
) -> Iterator[Figure]:
    """Losses, accuracies, eigenvalues beside their thresholds, learning rates that change, and all else that the runs
    recorded; then, with ``arrays``, their arrays.

    ``table`` are the scalars of the records, where the caller has them: the rows of :func:`scalars_of`.
    """
    if table is None:
        table = pl.concat([scalars_of(name, record.pieces()) for name, record in records.items()])
    names = list(records)
    diverged = [name for name, record in records.items() if record.status == "diverged"]
    marks: list[Mark] = []
    words = ""
    if len(records) == 1:
        marks, words = marks_of(records[names[0]])
    groups = {name: group_names(record.info.get("optimizers")) for name, record in records.items()}
    known = described(records.values())
    plain = plain_thresholds(table)
    drawn = _Drawn(table, names, diverged, marks, words, known)
    taken: set[str] = set()
    for figure in (
        *drawn.losses(),
        *drawn.eigenvalues(plain),
        *drawn.effective(plain),
        *drawn.ratios(),
        *drawn.learning_rates(groups),
        *drawn.blocks(),
        *_spikes(records),
    ):
        taken.add(figure.name)
        yield figure
    rest = table.join(pl.concat(drawn.shown), on=["measure", "part"], how="anti") if drawn.shown else table
    for figure in other_figures(rest, names, diverged, marks, words, known, taken):
        yield figure
    if arrays:
        yield from array_figures(records, plain, taken)


@dataclass
class _Drawn:
    """The figures that show several measures beside each other; ``shown`` are the measures and parts drawn so far."""

    table: pl.DataFrame
    names: list[str]
    diverged: list[str]
    marks: list[Mark]
    words: str
    known: Mapping[str, About]
    shown: list[pl.DataFrame] = field(default_factory=list)

    @property
    def single(self) -> bool:
        """Whether there is one run alone."""
        return len(self.names) == 1

    def losses(self) -> Iterator[Figure]:
        """The losses of training and of all evaluations, in one figure; the loss of every step is the training loss."""
        every = self._take("training_loss").filter(pl.col("part") == "").with_columns(part=pl.lit("train"))
        loss = pl.concat([every, self._take("loss")]).unique(["run", "step", "part"], keep="first", maintain_order=True)
        if not _measured(loss):
            return
        parts = loss["part"].unique(maintain_order=True).to_list()
        finite = loss["value"].filter(loss["value"].is_finite())
        positive = int((finite > 0).sum()) > 0.9 * len(finite)
        title, caption = (
            "Loss",
            "The mean loss over all samples of the training data, and of each evaluation.",
        )
        if not self.single and positive and set(parts) <= {"train", "test"}:
            renamed = loss.select("run", "step", loss="value", split="part")
            yield self._figure("loss", title, caption, loss_curves(renamed, diverged=self.diverged))
            return
        panels = self._panels(loss, about(self.known, "loss"))
        yield self._figure("loss", title, caption, self._lines(panels, "loss", positive))

    def eigenvalues(self, thresholds: pl.DataFrame) -> Iterator[Figure]:
        """The largest eigenvalues of the Hessian, with the thresholds that they can be compared with."""
        numbers = pl.col("part").str.contains(r"^[1-9][0-9]{0,5}$")
        found = self.table.filter(pl.col("measure") == "sharpness", numbers)
        if not _measured(found):
            return
        self._note(found)
        table = found.select("run", "step", "value", k="part")
        edges = thresholds.select("run", "step", "threshold")
        chart = eigenvalue_curves(
            table,
            None if edges.is_empty() else edges,
            layout="together" if self.single else "apart",
            diverged=self.diverged,
            title="eigenvalue λ of the Hessian" if self.single else "eigenvalue λ",
            logarithmic=log_helps(table["value"]),
        )
        caption = "The largest eigenvalues of the Hessian of the training loss, the first one darkest."
        if not edges.is_empty():
            caption += (
                " Dashed: the stability threshold of the optimizer (for gradient descent the threshold 2/η), if it has "
                "no preconditioner, so that the two can be compared."
            )
            decays = thresholds.filter(pl.col("decay") != 0)
            if not decays.is_empty():
                caption += (
                    " Weight decay adds the same number to every eigenvalue of the effective Hessian, so the line is "
                    "the threshold minus the weight decay."
                )
        yield self._figure("eigenvalues", "Largest eigenvalues of the Hessian", caption, self._marked(chart))

    def effective(self, plain: pl.DataFrame) -> Iterator[Figure]:
        """What the optimizer sees, with its threshold; not where that is the sharpness, which is drawn already."""
        seen = {run for run, decay in plain.select("run", "decay").unique().rows() if decay == 0}
        found = self._take("effective_sharpness", "threshold")
        repeated = pl.col("run").is_in(seen) & (pl.col("part") == "")
        found = found.filter(~repeated)
        values, edges = (found.filter(measure=name) for name in ("effective_sharpness", "threshold"))
        if not _measured(values):
            if _measured(edges):
                panels = self._panels(edges, about(self.known, "threshold"))
                caption = self._caption("threshold", "The sharpness at which the optimizer becomes unstable.")
                yield self._figure("threshold", "Stability threshold", caption, self._lines(panels, "threshold"))
            return
        curves = self._composed(values).select("run", "step", "value")
        lines = self._composed(edges).select("run", "step", threshold="value")
        lines = lines.filter(pl.col("run").is_in(curves["run"].unique()))
        several = curves["run"].n_unique() > 1 or not self.single
        chart = eigenvalue_curves(
            curves,
            lines if lines["threshold"].is_finite().any() else None,
            layout="apart" if several else "together",
            diverged=self._composed_names(values) if self.diverged else (),
            title="effective sharpness",
            logarithmic=log_helps(pl.concat([curves["value"], lines["threshold"]])),
        )
        caption = (
            "The largest eigenvalue of the effective Hessian: the Hessian with the weight decay, in the metric or "
            "geometry of the optimizer. Dashed: the stability threshold of the optimizer (for gradient descent the "
            "threshold 2/η). Measures effective_sharpness and threshold."
        )
        if seen:
            caption += " Runs without preconditioner and weight decay are in the previous figure only."
        chart = chart if several else self._marked(chart)
        yield self._figure("effective-sharpness", "Effective sharpness and threshold", caption, chart, not several)

    def ratios(self) -> Iterator[Figure]:
        """Effective sharpness over threshold."""
        found = self._take("ratio")
        if not _measured(found):
            return
        table = self._composed(found).select("run", "step", ratio="value")
        if table["run"].n_unique() > MOST_RUNS:
            table = found.filter(pl.col("part") == "").select("run", "step", ratio="value")
        caption = (
            "The largest eigenvalue of the effective Hessian, in the metric of the optimizer, over the stability "
            "threshold: 1 is the edge of stability."
        )
        lost = self._composed_names(found) if self.single and self.diverged else self.diverged
        chart = self._marked(
            ratio_curves(
                table, diverged=lost, logarithmic=log_helps(table["ratio"]) and _beyond(table["ratio"], BURSTS)
            )
        )
        yield self._figure("ratio", "Sharpness over threshold", caption, chart)

    def learning_rates(self, groups: Mapping[str, list[str]]) -> Iterator[Figure]:
        """Learning rates of all parameter groups, where they change; constant ones stand in the table of runs."""
        found = self._take("learning_rate")
        if not _measured(found) or (
            found.filter(pl.col("value").is_not_null())
            .group_by("run", "part")
            .agg(pl.col("value").n_unique())["value"]
            .max()
            == 1
            and (found["part"] == "").all()
        ):
            return
        tables = []
        for name in self.names:
            own = found.filter(pl.col("run") == name)
            parts = sorted({*own["part"]} - {""}, key=lambda part: (len(part), part))
            labels = groups.get(name, [])
            if parts:  # "" is the rate of all groups at steps where they agree
                agreed = own.filter(pl.col("part") == "").drop("part").join(pl.DataFrame({"part": parts}), how="cross")
                own = pl.concat([own.filter(pl.col("part") != ""), agreed.select(own.columns)])
                own = own.sort("step", maintain_order=True).unique(["step", "part"], keep="first", maintain_order=True)
                words = {part: labels[int(part)] for part in parts if part.isdigit() and int(part) < len(labels)}
                own = own.with_columns(pl.col("part").replace({p: w or f"group {p}" for p, w in words.items()}))
            tables.append(own)
        panels = self._panels(pl.concat(tables), about(self.known, "learning_rate"))
        caption = self._caption("learning_rate", "The learning rate η of each parameter group.")
        chart = self._lines(panels, "learning rate η")
        yield self._figure("learning-rate", "Learning rate", caption, chart)

    def blocks(self) -> Iterator[Figure]:
        """How sharp each block is, and which of them limits the learning rate."""
        for figure, shown in block_figures(self.table, self.names):
            self.shown.append(shown)
            yield figure

    # ------------------------------------------------------------------------------------------------------- helpers

    def _take(self, *measures: str) -> pl.DataFrame:
        found = self.table.filter(pl.col("measure").is_in(measures))
        self._note(found)
        return found

    def _note(self, found: pl.DataFrame) -> None:
        self.shown.append(found.select("measure", "part").unique())

    def _panels(self, found: pl.DataFrame, said: About) -> pl.DataFrame:
        """One panel with a line a part for a single run, else a panel a part with a line a run."""
        if self.single:
            named = pl.when(pl.col("part") == "").then(pl.lit(said.name)).otherwise("part")
            return found.select("step", "value", panel=pl.lit(said.name), run=named)
        named = pl.when(pl.col("part") == "").then(pl.lit(said.title)).otherwise("part")
        return found.select("run", "step", "value", panel=named)

    def _lines(self, panels: pl.DataFrame, title: str, logarithmic: bool | None = None) -> Chart:
        titles = {panels["panel"][0]: title} if panels["panel"].n_unique() == 1 else None
        lost = panels["run"].unique().to_list() if self.single and self.diverged else self.diverged
        return series_panels(panels, titles=titles, diverged=lost, marks=self.marks, logarithmic=logarithmic)

    def _composed(self, found: pl.DataFrame) -> pl.DataFrame:
        """The table with run and part as one name: that of the part for a single run, where it has several."""
        if found["part"].n_unique() <= 1:
            return found
        part = pl.when(pl.col("part") == "").then(pl.lit(ALL_OPTIMIZERS)).otherwise("part")
        return found.with_columns(run=part if self.single else pl.format("{}: {}", "run", part))

    def _composed_names(self, found: pl.DataFrame) -> list[str]:
        lost = found.filter(pl.col("run").is_in(self.diverged))
        return (
            self._composed(found)["run"].unique().to_list()
            if self.single
            else (self._composed(lost)["run"].unique().to_list() if not lost.is_empty() else [])
        )

    def _marked(self, chart: Chart) -> Chart:
        return marked(chart, self.marks)

    def _caption(self, measure: str, sentence: str) -> str:
        said = about(self.known, measure)
        unit = f", in {said.unit}" if said.unit and said.unit != "1" else ""
        return f"{sentence} Measure {measure}{unit}."

    def _figure(self, name: str, title: str, caption: str, chart: Chart, words: bool = True) -> Figure:
        return Figure(name, title, caption + (self.words if words else ""), chart)


def _spikes(records: Mapping[str, Record]) -> Iterator[Figure]:
    """The largest spike of the first run that has one, or a warning."""
    found = (spike_figure(name, record) for name, record in records.items())
    yield from itertools.islice(filter(None, found), 1)


def _beyond(values: pl.Series, limit: float) -> bool:
    return bool((values.filter(values.is_finite()) > limit).any())


def _measured(found: pl.DataFrame) -> bool:
    return bool(found["value"].is_finite().any())
