"""What the list of the page says of a run: its state and verdict, last loss and ratio, and configuration."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from edgescope.board.folder import last_change
from edgescope.board.run_reader import RunContents
from edgescope.monitor.verdict import judge
from edgescope.printable import printable
from edgescope.report.run_report.optimizers import optimizer_text, rate_of

UNREAD: Final = "not read yet"
CONFIGURED: Final = ("data", "model", "optimizer", "lr", "batch", "seed")
LONGEST: Final = 160
"""Letters of a text from a record that the list shows."""


@dataclass(frozen=True)
class RunSummary:
    """A row of the list. ``regime`` is "" where nothing can be said yet, numbers are None where there is none.

    ``changed`` is the time of the last change, in seconds since 1970; ``about`` the configuration in a line.
    """

    name: str
    state: str
    changed: float
    step: int | None = None
    loss: float | None = None
    ratio: float | None = None
    regime: str = ""
    sentences: tuple[str, ...] = ()
    advice: str = ""
    about: str = ""
    tags: tuple[str, ...] = ()
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summary_of(name: str, place: Path, contents: RunContents) -> RunSummary:
    """The row of a run from what was read of it."""
    if contents.facts is None:
        return RunSummary(name, contents.state, last_change(place), fault=_short(contents.fault, 2 * LONGEST))
    verdict = judge(contents.facts)
    steps = contents.scalars["step"]
    loss = _last(contents.scalars, "loss", "train")
    tags = contents.info.get("tags")
    return RunSummary(
        name,
        contents.state,
        last_change(place),
        step=None if steps.is_empty() else int(steps[-1]),
        loss=_last(contents.scalars, "training_loss", "") if loss is None else loss,
        ratio=_last(contents.scalars, "ratio", ""),
        regime=verdict.regime,
        sentences=tuple(printable(sentence) for sentence in verdict.sentences),
        advice=verdict.advice,
        about=_about(contents),
        tags=tuple(_short(f"{key}={value}") for key, value in tags.items()) if isinstance(tags, dict) else (),
    )


def _about(contents: RunContents) -> str:
    optimizers = contents.info.get("optimizers")
    known = {"optimizer": optimizer_text(optimizers), "lr": rate_of(optimizers)}
    found = {key: contents.config.get(key, known.get(key)) for key in CONFIGURED}
    return ", ".join(
        _short(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
        for key, value in found.items()
        if value is not None
    )


def _last(table: pl.DataFrame, measure: str, part: str) -> float | None:
    values = table.filter((pl.col("measure") == measure) & (pl.col("part") == part))["value"]
    return float(values[-1]) if len(values) and math.isfinite(values[-1]) else None


def _short(text: str, most: int = LONGEST) -> str:
    words = printable(text)
    return words if len(words) <= most else words[: most - 1] + "…"
