"""A chart with its name, title and caption, saved as SVG, PNG and PDF."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgescope.atomic import write_file
from edgescope.errors import InputError
from edgescope.figures.chart import Chart
from edgescope.printable import printable

PNG_SCALE = 2


def vega_lite() -> str:
    """The version of Vega-Lite that Altair writes, as vl-convert names it."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.split(".")[:2])


@dataclass(frozen=True)
class Figure:
    """A chart as a study shows it.

    ``name`` is the stem of the files (lower-case letters, digits, ``-`` and ``_``); ``title`` is short; ``caption``
    says what is drawn and what to see. ``chart`` is any Altair chart and carries no title or look of its own.
    """

    name: str
    title: str
    caption: str
    chart: Chart

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise InputError(
                f"a figure named '{self.name}'", expected="lower-case letters, digits, '-' and '_' (it names its files)"
            )

    def svg(self) -> str:
        """The picture as SVG text for a page that has its own heading and background: without either."""
        return svg_of(self.chart, background="transparent")

    def _repr_svg_(self) -> str:
        """The picture with its title, which notebooks show without a network."""
        return svg_of(self.chart, background="white", title=self.title)

    def save(self, folder: Path | str, name: str = "") -> dict[str, Path]:
        """Write ``<name>.svg``, ``.png`` (two pixels a point) and ``.pdf`` into ``folder``, each whole or not at all.

        ``name`` is that of the figure by default. Returns the three paths by format. Raises :class:`RecordError` where
        the folder cannot be written, and :class:`InputError` for a name that a figure cannot have.
        """
        if name and name != self.name:
            return replace(self, name=name).save(folder)
        import vl_convert

        svg = svg_of(self.chart, background="white", title=self.title)
        images: dict[str, str | bytes] = {
            "svg": svg,
            "png": vl_convert.svg_to_png(svg, scale=PNG_SCALE),
            "pdf": vl_convert.svg_to_pdf(svg),
        }
        return {kind: write_file(Path(folder) / f"{self.name}.{kind}", image) for kind, image in images.items()}


def svg_of(chart: Chart, background: str, title: str | None = None) -> str:
    """A chart as SVG text in the look of all figures, or in that of its own where it has been configured."""
    import vl_convert  # imported here: who lists or runs studies need not wait for it

    # Names from records may hold characters that no XML can: with them the pictures could not be made.
    drawn = vl_convert.vegalite_to_svg(specification_of(chart, background, title), vl_version=vega_lite())
    return printable(drawn, keep="\n\t")


def specification_of(chart: Chart, background: str, title: str | None = None) -> dict[str, Any]:
    """The Vega-Lite specification of a chart in the look of all figures, or of its own where it has been configured."""
    from altair import Undefined

    from edgescope.figures import look

    # Altair has checked every part when it was made; checking the whole again would cost more than drawing it. The look
    # and the title are put into the result, since Altair would copy the chart for each.
    specification: dict[str, Any] = chart.to_dict(validate=False)
    if chart.config is Undefined:
        config = specification.setdefault("config", {})
        for name, value in look.CONFIG.items():
            config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
        config["background"] = background
    if title is not None:
        specification["title"] = title
    return specification
