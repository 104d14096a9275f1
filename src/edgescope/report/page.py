"""The report: one HTML file that needs nothing else, with findings and pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from edgescope.atomic import subfolder, write_file
from edgescope.claims import Finding, dumps
from edgescope.errors import InputError
from edgescope.figures.figure import Figure
from edgescope.printable import printable
from edgescope.report.cards import Card, interval_text, make_cards
from edgescope.report.numbers import number
from edgescope.report.pictures import Picture
from edgescope.report.scripts import content_policy, page_script, vega_bundle
from edgescope.report.summary import summary, tally
from edgescope.report.tables import RunTables, cell, columns, heading
from edgescope.report.words import SYMBOLS, verb

_FOLDER = Path(__file__).parent


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
    notes: Sequence[Mapping[str, Any]] = (),
    topics: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write ``report.html``, ``findings.json`` and ``figures/*.svg|png|pdf`` into ``folder``; the path of the report.

    The page is one file: pictures, style and scripts are inside, and a policy of the page itself keeps it from loading
    anything. Without scripts, and on paper, it says the same with still pictures; where there is something to draw,
    the scripts of the live ones take some 900 kB. ``runs`` has a mapping a run with any of ``run data model optimizer
    lr steps mode precision status`` (configuration) and ``losses gradients products seconds threads path`` (cost);
    other keys join the configuration. ``cost`` holds the totals, ``versions`` those of the parts and the commit,
    ``command`` what to type to get the same again. ``notes`` are what a reader of the figures must know, each with any
    of ``about text steps runs``. ``topics`` has the ids of the findings under each heading, in reading order; claims
    that are in none come last. Every file is written aside and renamed, the page last. With ``findings=None``, for
    runs that belong to no study, there are neither verdicts nor ``findings.json``. Raises :class:`InputError` for an
    empty list of findings, no title, or two figures of one name, and :class:`RecordError` for a folder that cannot be
    written.
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
    pictured = subfolder(folder, "figures") if figures else folder
    for figure in figures:
        figure.save(pictured)
    if findings is not None:
        write_file(folder / "findings.json", dumps(findings))
    pictures = [Picture.of(figure, place) for place, figure in enumerate(figures, 1)]
    cards = make_cards(findings or (), {picture.name: picture for picture in pictures})
    forests = [card.forest for card in cards if card.forest]
    alive = forests + pictures
    scripts = [vega_bundle(), page_script()] if alive else [page_script()]
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            abstract=abstract,
            paper=paper,
            css=Markup((_FOLDER / "report.css").read_text(encoding="utf-8")),  # our own file, not input
            policy=Markup(content_policy(scripts)),
            scripts=scripts,
            symbols=SYMBOLS,
            tally=tally(findings or ()),
            summary=summary(findings, {n: card.place for n, card in enumerate(cards)}) if findings else [],
            cards=cards,
            topics=_by_topic(cards, topics or {}),
            pictures=pictures,
            placed={card.shown.name for card in cards if card.shown},
            alive=alive,
            forests=forests,
            runs=runs,
            tables=RunTables.of(runs),
            cost=cost,
            versions=versions,
            command=command,
            notes=notes,
            about=columns(notes, ("about", "text", "steps", "runs")),
        )
    )
    return write_file(folder / "report.html", text)


def _by_topic(cards: Sequence[Card], topics: Mapping[str, Sequence[str]]) -> list[tuple[str, list[Card]]]:
    """Cards under the headings they belong to; those of none last, under "Other claims", or "" where there are none."""
    groups: list[tuple[str, list[Card]]] = []
    left = list(cards)
    for topic, ids in topics.items():
        members = [card for card in left if card.finding.id in ids]
        left = [card for card in left if card.finding.id not in ids]
        if members:
            groups.append((topic, sorted(members, key=lambda card: list(ids).index(card.finding.id))))
    return [*groups, ("Other claims" if groups else "", left)] if left else groups


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
        finalize=_shown,
    )
    environment.filters |= {"number": number, "cell": cell, "heading": heading, "interval": interval_text}
    environment.globals |= {"verb": verb}
    return environment


def _shown(value: Any) -> Any:
    """Texts with control characters written out; pictures and styles, which are our own, as they are."""
    return printable(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value
