"""What the page draws of the chosen runs: panels with a line for each series, made short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.board.downsampling import MOST_POINTS, downsample
from edgescope.figures import look
from edgescope.figures.series import log_helps
from edgescope.report.run_report.scalars import About, about
from edgescope.report.run_report.thresholds import plain_thresholds

MOST_RUNS: Final = 2 * len(look.PALETTE)
"""Runs that are drawn together: two for each colour, which the shapes of their marks tell apart."""

MOST_LINES: Final = 8
"""Lines of one run in one panel."""

MOST_PANELS: Final = 40

MOST_POINTS_OF_ALL: Final = 2400
"""Points of the lines of all chosen runs in one panel, if each has one line; at least 200 a line."""

FIRST: Final = ("ratio", "norms", "gradient_norm", "update_norm", "accuracy", "learning_rate")
"""Measures whose panels come first, after the loss and the eigenvalues."""

Steps = tuple[int | None, int | None]
"""The first and the last step to draw; None for no bound."""


@dataclass(frozen=True)
class Line:
    """A line of the run in place ``run`` of those chosen; values that are not finite are None.

    ``part`` tells it from other lines of that run; ``dashed`` is one of a threshold or of a test set, ``fade`` its
    opacity. ``readings`` is how many there are, of which these are some.
    """

    run: int
    part: str
    x: list[float]
    y: list[float | None]
    dashed: bool
    fade: float
    readings: int


@dataclass(frozen=True)
class Panel:
    """A chart: ``at`` is a level drawn as a dashed line, ``note`` what to know, ``horizontal`` the x axis."""

    name: str
    title: str
    unit: str
    lines: list[Line]
    logarithmic: bool = False
    at: float | None = None
    note: str = ""
    horizontal: str = "step"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Made:
    """The panels of some runs, from one table of all their readings."""

    table: pl.DataFrame
    names: Sequence[str]
    known: Mapping[str, About]
    steps: Steps
    taken: set[tuple[str, str]] = field(default_factory=set)

    def loss(self) -> Iterator[Panel]:
        lines = []
        for part in self._parts("loss")[:MOST_LINES]:
            lines += self._lines("loss", part, dashed=part != "train")
        if lines:
            yield self._panel("loss", "Loss", lines)

    def eigenvalues(self) -> Iterator[Panel]:
        parts = [part for part in self._parts("sharpness") if part.isdecimal()]
        lines = []
        for place, part in enumerate(parts[: len(look.FADES)]):
            lines += self._lines("sharpness", part, label=f"eigenvalue {part}", fade=look.FADES[place])
        self.taken |= {("sharpness", part) for part in parts}
        plain = plain_thresholds(self.table)
        thresholds = plain.select("run", "step", value="threshold")
        if lines:
            lines += self._of_table(thresholds, "threshold", dashed=True)
            yield self._panel("sharpness", "Largest eigenvalues of the Hessian", lines)
        drawn = {run for run, decay in plain.select("run", "decay").unique().rows() if decay == 0} if lines else set()
        more = []
        for name, dashed in (("effective_sharpness", False), ("threshold", True)):
            rows = self._rows(name, "").filter(~pl.col("run").is_in(list(drawn)))
            more += self._of_table(rows, name.replace("_", " "), dashed=dashed)
            self.taken.add((name, ""))
        if more:
            note = "In the geometry of the optimizer."
            yield self._panel("effective_sharpness", "Effective sharpness and threshold", more, note=note)

    def ratio(self) -> Iterator[Panel]:
        lines = self._lines("ratio", "")
        if lines:
            yield self._panel("ratio", "Sharpness over threshold", lines, at=1.0, note="1 is the edge of stability.")

    def others(self) -> Iterator[Panel]:
        pairs = self.table.select("measure", "part").unique(maintain_order=True).rows()
        rest = [pair for pair in pairs if pair not in self.taken]
        measures = sorted({measure for measure, _ in rest}, key=lambda name: (_place(name), name))
        for measure in measures:
            parts = [part for name, part in rest if name == measure]
            said = about(self.known, measure)
            note = f"{MOST_LINES} of {len(parts)} parts." if len(parts) > MOST_LINES else ""
            parts = parts[:MOST_LINES]
            if len(self.names) == 1:
                lines = [line for part in parts for line in self._lines(measure, part)]
                yield self._panel(measure, said.title, lines, unit=said.unit, note=note)
                continue
            for part in parts:
                title = f"{said.title}: {part}" if part else said.title
                lines = self._lines(measure, part, label="")
                yield self._panel(f"{measure}/{part}", title, lines, unit=said.unit, note=note)

    def _parts(self, measure: str) -> list[str]:
        return self.table.filter(pl.col("measure") == measure)["part"].unique(maintain_order=True).to_list()

    def _rows(self, measure: str, part: str) -> pl.DataFrame:
        found = self.table.filter((pl.col("measure") == measure) & (pl.col("part") == part))
        return found.select("run", "step", "value")

    def _lines(
        self, measure: str, part: str, label: str | None = None, dashed: bool = False, fade: float = 1.0
    ) -> list[Line]:
        self.taken.add((measure, part))
        return self._of_table(self._rows(measure, part), part if label is None else label, dashed, fade)

    def _of_table(self, rows: pl.DataFrame, label: str, dashed: bool = False, fade: float = 1.0) -> list[Line]:
        low, high = self.steps
        if low is not None:
            rows = rows.filter(pl.col("step") >= low)
        if high is not None:
            rows = rows.filter(pl.col("step") <= high)
        lines = []
        for place, name in enumerate(self.names):
            own = rows.filter(pl.col("run") == name)
            if not own.is_empty():
                steps, values = downsample(own["step"].to_numpy(), own["value"].to_numpy(), self._most_points())
                lines.append(Line(place, label, steps.tolist(), numbers(values), dashed, fade, own.height))
        return lines

    def _most_points(self) -> int:
        return min(MOST_POINTS, max(200, MOST_POINTS_OF_ALL // len(self.names)))

    def _panel(
        self, name: str, title: str, lines: list[Line], unit: str = "", at: float | None = None, note: str = ""
    ) -> Panel:
        values = pl.Series([value for line in lines for value in line.y if value is not None], dtype=pl.Float64)
        return Panel(name, title, "" if unit == "1" else unit, lines, log_helps(values), at, note)


def make_panels(
    tables: Mapping[str, pl.DataFrame], known: Mapping[str, About], steps: Steps = (None, None)
) -> list[Panel]:
    """The panels of runs by name, from their readings (step, measure, part, value): loss, eigenvalues, ratio, the rest.

    ``known`` is what the measures say of themselves; ``steps`` bounds what is drawn, more finely then.
    """
    frames = [
        table.select(pl.lit(name).alias("run"), "step", "measure", "part", "value") for name, table in tables.items()
    ]
    table = pl.concat(frames)
    made = _Made(table, list(tables), known, steps)
    panels = [*made.loss(), *made.eigenvalues(), *made.ratio(), *made.others()]
    return [panel for panel in panels if panel.lines][:MOST_PANELS]


def numbers(values: Float[np.ndarray, " n"]) -> list[float | None]:
    """As JSON has them: to seven digits, None for what is not finite."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]


def _place(measure: str) -> int:
    return FIRST.index(measure) if measure in FIRST else len(FIRST)
