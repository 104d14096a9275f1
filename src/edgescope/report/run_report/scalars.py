"""All numbers that runs recorded, as tables for charts, and what each measure says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from edgescope.measures import MEASURES
from edgescope.printable import printable
from edgescope.store import Record

KINDS: Final = {"run": pl.String, "step": pl.Int64, "measure": pl.String, "part": pl.String, "value": pl.Float64}

LONGEST: Final = 44
"""Letters for which an axis has room."""


@dataclass(frozen=True)
class About:
    """What a measure says of itself: ``unit`` and ``source`` are empty for one that does not."""

    name: str
    title: str
    unit: str = ""
    source: str = ""

    @property
    def axis(self) -> str:
        """The title of an axis, as far as there is room for it."""
        whole = f"{self.title} ({self.unit})" if self.unit and self.unit != "1" else self.title
        return whole if len(whole) <= LONGEST else self.title[:LONGEST]


def scalars_of(name: str, pieces: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Run, step, measure, part, value of every reading in the ``pieces`` of a record; null where there was no value.

    Such a reading is a row for each part that the measure has at other steps, and none where it never has any.
    """
    kept = [pl.DataFrame(schema=KINDS)]
    for piece in pieces:
        kept.append(piece.select(pl.lit(name).alias("run"), "step", "measure", "part", "value"))
    table = _printable(pl.concat(kept))
    unlimited = (pl.col("measure") == "headroom") & pl.col("value").is_infinite()  # a loss that does not rise
    table = table.with_columns(pl.when(~unlimited).then("value"))
    without = table.filter(pl.col("value").is_null()).select("run", "step", "measure").unique(maintain_order=True)
    found = table.filter(pl.col("value").is_not_null())
    if without.is_empty():
        return found
    parts = found.select("measure", "part").unique(maintain_order=True)
    gaps = without.join(parts, on="measure").with_columns(value=pl.lit(None, pl.Float64)).select(list(KINDS))
    gaps = gaps.join(found, on=["step", "measure", "part"], how="anti")
    return pl.concat([found, gaps]).sort("step", maintain_order=True)


def _printable(table: pl.DataFrame) -> pl.DataFrame:
    """The table with names that any picture can show: what is no text would end the program that draws it."""
    for column in ("measure", "part"):
        names = table[column].drop_nulls().unique(maintain_order=True).to_list()
        changed = {name: shown for name in names if (shown := printable(name)) != name}
        if changed:
            table = table.with_columns(pl.col(column).replace(changed))
    return table


def followed(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of those quantities that most runs have at more than one step, so that there is a curve to draw."""
    steps = (
        table.filter(pl.col("value").is_not_null()).group_by("run", "measure", "part").agg(pl.col("step").n_unique())
    )
    usual = steps.group_by("measure", "part").agg(pl.col("step").median()).filter(pl.col("step") > 1)
    return table.join(usual.select("measure", "part"), on=["measure", "part"], how="semi", maintain_order="left")


def described(records: Iterable[Record]) -> dict[str, About]:
    """What the measures of the records, and those of this package, say of themselves, by name."""
    known = {
        name: About(name, getattr(kind, "title", name), getattr(kind, "unit", ""), getattr(kind, "source", ""))
        for name, kind in ((name, MEASURES[name]) for name in MEASURES)
    }
    for record in records:
        noted = record.info.get("measures")
        for name, texts in (noted if isinstance(noted, dict) else {}).items():
            if name not in known and isinstance(texts, dict):
                known[name] = About(name, *(_short(texts.get(key)) or default for key, default in _defaults(name)))
    return known


def about(known: Mapping[str, About], name: str) -> About:
    """What is known of a measure, if only its name."""
    return known.get(name) or About(name, name)


def _defaults(name: str) -> tuple[tuple[str, str], ...]:
    return (("title", name), ("unit", ""), ("source", ""))


def _short(text: Any, most: int = 80) -> str:
    """A text from elsewhere as a title: its first words."""
    words = printable(text) if isinstance(text, str) else ""
    return words if len(words) <= most else words[: most - 1] + "…"
