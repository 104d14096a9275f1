"""A claim as the page shows it: its verdict and count, its forest plot, the figure that shows it, its cases."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from edgescope.claims import Finding, JudgedCase, Row
from edgescope.figures.figure import Figure
from edgescope.figures.forest import MOST_ROWS, forest_plot
from edgescope.report.numbers import MISSING, number
from edgescope.report.pictures import Picture
from edgescope.report.words import cases, count_of_cases


@dataclass(frozen=True)
class CaseTable:
    """The cases of a claim: a row each, with factors that differ between them, and the quantities given beside.

    ``beside`` are the headings of those quantities; each row of ``rows`` is a case with their texts in this order.
    """

    factors: list[str]
    beside: list[str]
    rows: list[tuple[JudgedCase, list[str]]]
    judged: bool
    intervals: bool
    reasons: bool

    @classmethod
    def of(cls, finding: Finding) -> CaseTable:
        """The table of the cases of a claim; without a region, no case of it is judged alone."""
        judged = finding.cases
        levels: dict[str, set[str]] = {}
        for case in judged:
            for name in case.factors:
                levels.setdefault(name, set()).update(str(c.factors.get(name, "")) for c in judged)
        headings = dict.fromkeys(_heading(row) for case in judged for row in case.beside)
        rows = []
        for case in judged:
            given = {_heading(row): estimate_text(row.value, row.low, row.high) for row in case.beside}
            rows.append((case, [given.get(heading, "") for heading in headings]))
        factors = [name for name, values in levels.items() if len(values) > 1 and len(judged) > 1]
        return cls(
            factors,
            list(headings),
            rows,
            finding.region is not None,
            any(interval_text(case.low, case.high) for case in judged),
            any(case.why or case.needs for case in judged),
        )


@dataclass(frozen=True)
class Card:
    """A claim with all that is shown of it. ``shown`` is the picture that stands in the card itself; ``link`` the one
    elsewhere on the page that shows the claim, None if none does."""

    place: str
    finding: Finding
    count: str
    forest: Picture | None
    note: str
    shown: Picture | None
    link: Picture | None
    table: CaseTable | None

    @property
    def summary_of_table(self) -> str:
        """The line that unfolds the table."""
        more = " and the additional quantities" if self.table and self.table.beside else ""
        return f"Table of {cases(len(self.finding.cases))}{more}"


def make_cards(findings: Sequence[Finding], pictures: Mapping[str, Picture]) -> list[Card]:
    """A card for every finding. A picture that shows a single claim stands in its card, others are linked to."""
    shows = [finding.figure for finding in findings]
    places = anchors(findings)
    made = []
    for finding, place in zip(findings, places, strict=True):
        forest = _forest(finding, place)
        picture = pictures.get(finding.figure)
        alone = picture is not None and shows.count(finding.figure) == 1
        made.append(
            Card(
                place,
                finding,
                count_of_cases(finding),
                forest,
                _note(finding) if forest else "",
                picture if alone else None,
                None if alone else picture,
                CaseTable.of(finding) if finding.cases else None,
            )
        )
    return made


def anchors(findings: Sequence[Finding]) -> list[str]:
    """A place on the page for every finding, from its id: letters, digits, dots and dashes, no two alike."""
    found: list[str] = []
    for index, finding in enumerate(findings, 1):
        name = "claim-" + (re.sub(r"[^A-Za-z0-9.-]+", "-", finding.id).strip("-") or str(index))
        found.append(name if name not in found else f"{name}-{index}")
    return found


def estimate_text(value: float, low: float, high: float) -> str:
    """A number with its interval: "1.02 (0.98 to 1.06)"; a dash where there is none."""
    if math.isnan(value):
        return MISSING
    return number(float(value)) + (f" ({interval_text(low, high)})" if interval_text(low, high) else "")


def interval_text(low: float, high: float) -> str:
    """The interval in words, "" where there is none, or none to speak of: both ends alike."""
    return "" if math.isnan(low) or math.isnan(high) else f"{number(float(low))} to {number(float(high))}"


def _forest(finding: Finding, place: str) -> Picture | None:
    """The forest plot of a claim, None for one without cases or without a region."""
    if not finding.cases or finding.region is None:
        return None
    columns = ("case", "value", "low", "high", "verdict", "why")
    table = pl.DataFrame({name: [getattr(case, name) for case in finding.cases] for name in columns})
    unit = f" ({finding.unit})" if finding.unit else ""
    chart = forest_plot(
        table,
        region=(finding.region.low, finding.region.high),
        title=(finding.quantity or "value") + unit,
        pooled=finding.pooled,
    )
    name = "forest-" + re.sub(r"[^a-z0-9_-]+", "-", place.lower())
    return Picture.of_forest(Figure(name, f"Cases of the claim: {finding.claim}", "", chart))


def _note(finding: Finding) -> str:
    """What is left to say below a forest plot."""
    count = len(finding.cases)
    if count <= MOST_ROWS:
        return ""
    return f"{MOST_ROWS} of {count} cases are shown, failed and open cases first; the table has all of them."


def _heading(row: Row) -> str:
    return row.quantity + (f" ({row.unit})" if row.unit else "")
