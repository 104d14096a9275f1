"""Charts that notebooks show as still pictures, without a network, from which Altair's own load their scripts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, ParamSpec

import altair as alt

from edgescope.figures.chart import Chart
from edgescope.figures.figure import svg_of

P = ParamSpec("P")

USUAL: Final = "default"
"""The renderer of Altair where nobody has chosen another one; it loads scripts from a content delivery network."""


class PictureMixin:
    """What a notebook shows of a chart, and of charts that are put together from it.

    Where the user has chosen a renderer, as by ``alt.renderers.enable("html")`` for charts that scripts of a network
    make interactive, that is used.
    """

    def _repr_mimebundle_(self, *args: Any, **kwds: Any) -> Any:
        if alt.renderers.active != USUAL:
            return super()._repr_mimebundle_(*args, **kwds)  # type: ignore[misc]
        svg = svg_of(self, background="white")
        return {"text/html": svg, "image/svg+xml": svg}  # some front ends show only one of the two

    def __add__(self, other: Chart) -> Chart:
        return as_picture(super().__add__(other))  # type: ignore[misc]

    def __and__(self, other: Chart) -> Chart:
        return as_picture(super().__and__(other))  # type: ignore[misc]

    def __or__(self, other: Chart) -> Chart:
        return as_picture(super().__or__(other))  # type: ignore[misc]


class PictureChart(PictureMixin, alt.Chart):
    """A single chart, shown as a picture."""


class PictureLayerChart(PictureMixin, alt.LayerChart):
    """Layers, shown as a picture."""


class PictureConcatChart(PictureMixin, alt.ConcatChart):
    """Charts in rows, shown as a picture."""


class PictureHConcatChart(PictureMixin, alt.HConcatChart):
    """Charts beside each other, shown as a picture."""


class PictureVConcatChart(PictureMixin, alt.VConcatChart):
    """Charts below each other, shown as a picture."""


class PictureFacetChart(PictureMixin, alt.FacetChart):
    """A chart for each value, shown as a picture."""


KINDS: Final[dict[type, type]] = {
    alt.Chart: PictureChart,
    alt.LayerChart: PictureLayerChart,
    alt.ConcatChart: PictureConcatChart,
    alt.HConcatChart: PictureHConcatChart,
    alt.VConcatChart: PictureVConcatChart,
    alt.FacetChart: PictureFacetChart,
}


def as_picture(chart: Chart) -> Chart:
    """The same chart, which a notebook shows as a picture; anything else as it is."""
    kind = KINDS.get(type(chart))
    if kind is not None:
        object.__setattr__(chart, "__class__", kind)  # Altair takes other attributes for parts of the specification
    return chart


def shown_as_picture(function: Callable[P, Chart]) -> Callable[P, Chart]:
    """A decorator: the chart that ``function`` returns is one that a notebook shows as a picture."""

    @functools.wraps(function)
    def made(*args: P.args, **kwds: P.kwargs) -> Chart:
        return as_picture(function(*args, **kwds))

    return made
