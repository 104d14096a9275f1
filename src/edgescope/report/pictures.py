"""Pictures as parts of a page: the still one, and the specification of the live one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import vl_convert
from markupsafe import Markup, escape

from edgescope.figures.figure import Figure
from edgescope.figures.live import live_specification
from edgescope.printable import printable
from edgescope.report.scripts import as_json

ENLARGED = 1.25
"""A figure on the page is this much larger than its file: its text then is nearly as large as the page's."""

_ROW = re.compile(r'<path aria-label="([^"]*)"([^>]*?aria-roledescription="row"[^>]*?)/>')


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it. ``number`` is 0 for one that has none, ``specification`` "" for one that is only
    a still picture."""

    name: str
    title: str
    caption: str
    still: Markup
    specification: Markup
    number: int = 0

    @classmethod
    def of(cls, figure: Figure, number: int) -> Picture:
        """A figure of a study, still and live."""
        still = inlined(figure.svg(), figure.name, figure.title)
        return cls(figure.name, figure.title, figure.caption, still, as_json(live_specification(figure)), number)

    @classmethod
    def of_forest(cls, figure: Figure) -> Picture:
        """A forest plot. The still picture is drawn from the live one, and tells its rows by titles."""
        specification = live_specification(figure)
        drawn = printable(vl_convert.vega_to_svg(specification), keep="\n\t")
        still = inlined(_ROW.sub(r'<path aria-label="\1"\2><title>\1</title></path>', drawn), figure.name, figure.title)
        return cls(figure.name, figure.title, figure.caption, still, as_json(specification))


def inlined(svg: str, name: str, title: str) -> Markup:
    """An SVG picture as part of a page: identifiers of its own, a name for those who cannot see it, no scripts."""
    svg = re.sub(r'<svg ([^>]*?)width="([\d.]+)" height="[\d.]+"', _enlarged, svg, count=1)
    svg = re.sub(r"""\bid=(["'])""", rf"id=\g<1>{name}-", svg)
    svg = re.sub(r"url\((['\"]?)#", rf"url(\g<1>#{name}-", svg)
    svg = re.sub(r"href=([\"'])#", rf"href=\g<1>#{name}-", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(printable(title))}" ', 1))


def _enlarged(match: re.Match[str]) -> str:
    return f'<svg {match[1]}width="{ENLARGED * float(match[2]):.0f}"'
