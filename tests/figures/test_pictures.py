"""What a notebook shows of a chart: a still picture, without a network, unless the user has chosen another renderer."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import altair as alt
import polars as pl
import pytest

import edgescope as es
from edgescope.figures import look
from edgescope.figures.figure import Figure, specification_of
from edgescope.figures.picture import KINDS, as_picture

KINDS_OF_CONTENT = {"text/html", "image/svg+xml"}
TABLE = pl.DataFrame({"x": [1.0, 2.0], "y": [1.0, 4.0], "name": ["a", "b"]})


@pytest.fixture(autouse=True)
def renderer() -> Iterator[None]:
    before = alt.renderers.active
    yield
    alt.renderers.enable(before)


def shown(chart: Any) -> dict[str, str]:
    """What Jupyter asks for: the data by their type."""
    found = chart._repr_mimebundle_(include=None, exclude=None)
    return dict(found[0] if isinstance(found, tuple) else found)


def points() -> Any:
    return alt.Chart(TABLE).mark_point().encode(x="x:Q", y="y:Q")


def charts() -> dict[str, Any]:
    """One chart of every kind that Altair has, not yet a picture."""
    return {
        "Chart": points(),
        "LayerChart": points() + points(),
        "HConcatChart": points() | points(),
        "VConcatChart": points() & points(),
        "ConcatChart": alt.concat(points(), points()),
        "FacetChart": points().facet("name:N"),
    }


@pytest.mark.parametrize("name", [name for name in es.figures.__all__ if name not in ("Figure", "Mark")])
def test_every_function_gives_a_picture(name: str) -> None:
    assert hasattr(getattr(es.figures, name), "__wrapped__")


def test_a_chart_of_the_package_is_shown_as_svg_that_loads_nothing() -> None:
    rates = {"lr": [0.1, 0.2], "sharpness": [20.0, 10.0], "l1": [1.0, 2.0], "l2": [1.0, 2.0]}
    chart = es.figures.tradeoff_panels(pl.DataFrame(rates | {"reached": [True, True], "diverged": [False, False]}))
    found = shown(chart)
    assert set(found) == KINDS_OF_CONTENT
    assert found["text/html"] == found["image/svg+xml"]  # HTML takes it as it is
    assert ElementTree.fromstring(found["image/svg+xml"]).tag.endswith("svg")
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", found["image/svg+xml"]))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in found["image/svg+xml"]


@pytest.mark.parametrize("kind", charts())
def test_every_kind_of_chart_and_what_is_made_of_it(kind: str) -> None:
    plain = charts()[kind]
    assert type(plain).__name__ == kind
    expected = plain.to_dict()
    chart = as_picture(charts()[kind])
    assert {type(chart)} <= set(KINDS.values())
    again = chart.to_dict()
    for one in (expected, again):  # Altair numbers its views
        one.pop("datasets", None)
    assert re.sub(r"view_\d+", "", str(again)) == re.sub(r"view_\d+", "", str(expected))
    others = [copy.deepcopy(chart), chart.properties(title="a title"), as_picture(chart)]
    if kind != "FacetChart":
        others += [chart | points(), chart & points()]
    for one in others:
        assert set(shown(one)) == KINDS_OF_CONTENT
    assert "a title" in shown(others[1])["image/svg+xml"]


@pytest.mark.parametrize("kind", charts())
@pytest.mark.parametrize("title", [None, "a title"])
def test_the_look_is_what_altair_would_put_in(kind: str, title: str | None) -> None:
    chart = charts()[kind]
    configured = chart if title is None else chart.properties(title=title)
    expected = configured.configure(**look.CONFIG, background="white").to_dict(validate=False)
    found = specification_of(chart, "white", title)
    number = re.compile(r"view_\d+")  # Altair numbers its views
    assert json.loads(number.sub("", json.dumps(found))) == json.loads(number.sub("", json.dumps(expected)))


def test_layers_of_a_picture_are_one() -> None:
    assert set(shown(as_picture(points()) + points())) == KINDS_OF_CONTENT


def test_the_look_is_that_of_figures_or_that_of_the_user() -> None:
    chart = as_picture(points())
    assert "Liberation Sans" in shown(chart)["image/svg+xml"]
    without_background = re.sub(r"<rect[^>]*fill=\"white\"[^>]*/>", "", shown(chart)["image/svg+xml"])
    assert without_background == Figure("a", "", "", points()).svg()
    assert "Courier" in shown(as_picture(points().configure(font="Courier")))["image/svg+xml"]


def test_a_renderer_that_the_user_has_chosen_is_used() -> None:
    chart = as_picture(points())
    alt.renderers.enable("json")
    assert "application/json" in shown(chart)


def test_charts_of_the_user_are_left_as_they_are() -> None:
    assert type(points()) is alt.Chart
    assert "text/html" in shown(points())
    assert as_picture(None) is None
