"""The report: one HTML file that needs nothing else, with findings and pictures beside it."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from edgescope.errors import InputError
from edgescope.figures.figure import Figure, write_aside
from edgescope.report.cross_table import cross_table
from edgescope.report.finding import Finding, dumps
from edgescope.report.numbers import duration, number
from edgescope.report.terminal import SYMBOLS

CONFIGURATION = ("run", "data", "model", "optimizer", "lr", "steps", "mode", "precision", "status")
SPENDING = ("run", "losses", "gradients", "products", "seconds", "threads", "path")

ENLARGED = 1.25

_HEADINGS = {
    "lr": "learning rate η",
    "losses": "loss evaluations",
    "products": "curvature products",
    "seconds": "time",
    "path": "derivative path",
    "mode": "measured in mode",
}


@dataclass(frozen=True)
class Column:
    """One column of a table of runs."""

    key: str
    heading: str
    numeric: bool


def write_report(
    folder: Path | str,
    *,
    title: str,
    abstract: str,
    paper: str,
    findings: Sequence[Finding] | None,
    figures: Sequence[Figure],
    runs: Sequence[Mapping[str, Any]],
    cost: Mapping[str, Any],
    versions: Mapping[str, Any],
    command: str,
) -> Path:
    """Write ``report.html``, ``findings.json`` and ``figures/*.svg|png|pdf`` into ``folder``; the path of the report.

    The page is one file: pictures and style are inside, there are no scripts, and nothing is loaded. ``runs`` has a
    mapping a run with any of ``run data model optimizer lr steps mode precision status`` (configuration) and
    ``losses gradients products seconds threads path`` (cost); other keys join the configuration. ``cost`` holds the
    totals, ``versions`` those of the parts and the commit, ``command`` what to type to get the same again. Every file
    is written aside and renamed, the page last. With ``findings=None``, for runs that belong to no study, there are
    neither verdicts nor ``findings.json``. Raises :class:`InputError` for an empty list of findings, no title, two
    figures of one name, or a folder that cannot be written.
    """
    if not title.strip():
        raise InputError("a report without a title", expected="a short title")
    if findings is not None and not findings:
        raise InputError("a report without findings", expected="at least one finding")
    names = [figure.name for figure in figures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two figures named '{twice[0]}'", expected="a name of its own for every figure")
    folder = Path(folder)
    for figure in figures:
        figure.save(folder / "figures")
    if findings is not None:
        write_aside(folder / "findings.json", dumps(findings))
    pictures = [
        {"name": f.name, "title": f.title, "caption": f.caption, "svg": _inlined(f.svg(), f.name, f.title)}
        for f in figures
    ]
    known = dict.fromkeys([*CONFIGURATION, *(key for run in runs for key in run if key not in SPENDING)])
    common = _common(runs, [key for key in known if key not in ("run", "status")])
    page = _environment().get_template("report.html.j2")
    text = page.render(
        title=title,
        abstract=abstract,
        paper=paper,
        css=Markup((Path(__file__).parent / "report.css").read_text(encoding="utf-8")),  # our own file, not input
        symbols=SYMBOLS,
        tally=[(v, n) for v in SYMBOLS if (n := sum(f.verdict == v for f in findings or ()))],
        findings=findings,
        pictures=pictures,
        runs=runs,
        common=common,
        configuration=_columns(runs, [key for key in known if key not in common]),
        spending=_columns(runs, SPENDING),
        cost=cost,
        versions=versions,
        command=command,
    )
    return write_aside(folder / "report.html", text)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters |= {"cross_table": cross_table, "number": number, "cell": _cell, "heading": _heading}
    return environment


def _heading(key: str) -> str:
    return _HEADINGS.get(key, key.replace("_", " "))


def _cell(value: Any, key: str) -> str:
    if isinstance(value, jinja2.Undefined):
        value = None
    if key == "seconds" and isinstance(value, numbers.Real):
        return duration(float(value))
    text = number(value)
    if not isinstance(value, str) or "," not in text:
        return text
    return Markup(escape(text).replace(",", Markup(",<wbr>")))  # long descriptions may break after their commas


def _common(runs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """What is the same in all of several runs is said once, not in every row."""
    if len(runs) < 2:
        return {}
    first = runs[0]
    return {key: first[key] for key in keys if key in first and all(run.get(key) == first[key] for run in runs)}


def _columns(runs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[Column]:
    """The columns that some run has a value for; of numbers where every value is one."""
    columns = []
    for key in keys:
        values = [run[key] for run in runs if run.get(key) not in (None, "")]
        if values:
            numeric = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values)
            columns.append(Column(key, _heading(key), numeric))
    return columns


def _inlined(svg: str, name: str, title: str) -> Markup:
    """An SVG picture as part of a page: identifiers of its own, a name for those who cannot see it, no scripts."""
    svg = re.sub(r'<svg ([^>]*?)width="([\d.]+)" height="[\d.]+"', _enlarged, svg, count=1)
    svg = re.sub(r"""\bid=(["'])""", rf"id=\g<1>{name}-", svg)
    svg = re.sub(r"url\((['\"]?)#", rf"url(\g<1>#{name}-", svg)
    svg = re.sub(r"href=([\"'])#", rf"href=\g<1>#{name}-", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))


def _enlarged(match: re.Match[str]) -> str:
    """The size of a picture on the page: its text then is nearly as large as the page's."""
    return f'<svg {match[1]}width="{ENLARGED * float(match[2]):.0f}"'
