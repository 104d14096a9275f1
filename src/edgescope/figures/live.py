"""A figure for a browser: the chart as a Vega specification that can be zoomed, asked for values and thinned out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import vl_convert

from edgescope.figures.figure import Figure, specification_of, vega_lite
from edgescope.printable import printable

Spec = dict[str, Any]

HIDDEN = 0.3
"""Opacity of the name of a series that was switched off."""

HIT = 130
"""Area in square points around a point of a line within which the pointer is told its values."""

# A wheel that is turned over a figure scrolls the page: only with a key held (or two fingers) does it zoom.
WHEEL = "wheel![event.ctrlKey || event.metaKey || event.shiftKey]"

_DIGITS = re.compile(r"(?<=:)-?\d+\.\d{6,}(?:[eE][-+]?\d+)?(?=[,}])")
_COMPOSED = ("layer", "hconcat", "vconcat", "concat")
_SERIES = ("color", "stroke", "fill", "shape", "strokeDash", "opacity", "detail")
_LEGENDS = _SERIES[:-1]
_CONTINUOUS = ("quantitative", "temporal")


def live_specification(figure: Figure) -> Spec:
    """The chart of ``figure`` as a Vega specification: compiled, without a title, on a transparent background.

    Dragging moves and the wheel (with Ctrl, Shift or ⌘ held) stretches axes of numbers, a double click puts them back;
    marks have their values as tooltips; a click on an entry of a legend switches that series off or on. Nothing in it
    is loaded from elsewhere. A chart that cannot have all of this is compiled as it is.
    """
    try:
        return _compiled(_enlivened(specification_of(figure.chart, "transparent")))
    except ValueError:  # what the compiler raises for parameters that do not fit a chart
        return _compiled(specification_of(figure.chart, "transparent"))


def _compiled(spec: Spec) -> Spec:
    vega = vl_convert.vegalite_to_vega(spec, vl_version=vega_lite(), show_warnings=False)
    vega.pop("description", None)
    _finish(vega)
    shown: Spec = _printable(vega)
    return shown


def _enlivened(spec: Spec) -> Spec:
    count = itertools.count()
    _add_hit_points(spec, count)
    units = list(_units(spec))
    for unit in units:
        _add_tooltip(unit)
    for number, field in enumerate(_legend_fields(units)):
        _add_switch(units, field, f"off_{number}")
    for number, view in enumerate(_views(spec)):
        _add_zoom(list(_units(view)), f"zoom_{number}")
    return spec


def _views(node: Spec) -> Iterator[Spec]:
    """The parts that have axes of their own: single charts, or layers drawn over each other."""
    for key in ("hconcat", "vconcat", "concat"):
        for part in node.get(key, ()):
            yield from _views(part)
    if "spec" in node:
        yield from _views(node["spec"])
    elif "mark" in node or "layer" in node:
        yield node


def _units(node: Spec) -> Iterator[Spec]:
    """The charts of one mark each in a specification, in order."""
    if "mark" in node:
        if isinstance(node["mark"], str):
            node["mark"] = {"type": node["mark"]}
        yield node
    for key in _COMPOSED:
        for part in node.get(key, ()):
            yield from _units(part)
    if "spec" in node:
        yield from _units(node["spec"])


def _add_hit_points(node: Spec, count: Iterator[int]) -> None:
    """After every line a layer of unseen points, since a line itself has no values to tell at a place."""
    for key in _COMPOSED:
        if key in node:
            parts = []
            for part in node[key]:
                _add_hit_points(part, count)
                parts.append(part)
                if key == "layer" and _type(part) == "line":
                    parts.append(_hit_points(part, next(count)))
            node[key] = parts
    if "spec" in node:
        _add_hit_points(node["spec"], count)


def _hit_points(line: Spec, number: int) -> Spec:
    dropped = ("strokeDash", "strokeWidth", "order", "opacity", "interpolate")
    encoding = {key: value for key, value in line["encoding"].items() if key not in dropped}
    if "strokeDash" in line["encoding"]:
        encoding.setdefault("detail", _as_detail(line["encoding"]["strokeDash"]))
    for channel in _LEGENDS:
        if isinstance(encoding.get(channel), dict) and "field" in encoding[channel]:
            encoding[channel] = {k: v for k, v in encoding[channel].items() if k != "legend"} | {"legend": None}
    mark = {"type": "point", "filled": True, "size": HIT, "fillOpacity": 0, "opacity": 1, "strokeOpacity": 0}
    return {k: v for k, v in line.items() if k in ("data", "transform")} | {
        "name": f"hit_{number}",
        "mark": mark,
        "encoding": encoding,
    }


def _as_detail(channel: Any) -> Any:
    return {"field": channel["field"], "type": "nominal"} if isinstance(channel, dict) and "field" in channel else []


def _add_tooltip(unit: Spec) -> None:
    encoding = unit.get("encoding", {})
    if "tooltip" in encoding or "tooltip" in unit["mark"] or _type(unit) in ("line", "area", "text"):
        return
    told: dict[str, Spec] = {}
    for channel in (*_SERIES, "x", "x2", "y", "y2", "size"):
        for part in _parts(encoding.get(channel)):
            plain = "field" in part and not {"aggregate", "bin", "timeUnit"} & part.keys()
            if plain and part["field"] not in told:
                told[part["field"]] = {"field": part["field"], "type": "nominal", "title": _title(part)}
    if told:
        unit["encoding"] = encoding | {"tooltip": list(told.values())}


def _title(part: Spec) -> str:
    for place in (part, part.get("axis") or {}, part.get("legend") or {}):
        if isinstance(place, dict) and place.get("title"):
            title = place["title"]
            return " ".join(title[:1]) if isinstance(title, list) else str(title)
    return str(part["field"])


def _legend_fields(units: list[Spec]) -> list[str]:
    """The fields that have a legend of names, in order."""
    fields: dict[str, None] = {}
    for unit in units:
        for channel in _LEGENDS:
            part = unit.get("encoding", {}).get(channel)
            if isinstance(part, dict) and _has_legend(part):
                fields[part["field"]] = None
    return list(fields)


def _has_legend(part: Spec) -> bool:
    named = part.get("type") in ("nominal", "ordinal") and "field" in part
    return named and not ("legend" in part and part["legend"] is None)


def _add_switch(units: list[Spec], field: str, name: str) -> None:
    """A parameter that holds the series of ``field`` that are switched off, and marks that heed it."""
    select = {"type": "point", "fields": [field], "toggle": "true"}
    first = next(u for u in units if any(_has_legend(p) and p["field"] == field for p in _legend_parts(u)))
    first.setdefault("params", []).append({"name": name, "select": select, "bind": "legend"})
    for unit in units:
        encoding = unit.get("encoding", {})
        parts = [part for channel in (*_SERIES, "x", "y") for part in _parts(encoding.get(channel))]
        if any(part.get("field") == field for part in parts):
            opacity = encoding.get("opacity", {})
            if "condition" not in opacity:
                encoding["opacity"] = opacity | {"condition": {"param": name, "empty": False, "value": 0}}


def _legend_parts(unit: Spec) -> list[Spec]:
    parts = [unit.get("encoding", {}).get(channel) for channel in _LEGENDS]
    return [part for part in parts if isinstance(part, dict)]


def _add_zoom(units: list[Spec], name: str) -> None:
    """A parameter that binds the axes of numbers of one view to the pointer, and marks that end at its border."""
    found = {channel for unit in units for channel in ("x", "y") if _is_continuous(unit, channel)}
    discrete = {channel for unit in units for channel in ("x", "y") if _is_discrete(unit, channel)}
    channels = sorted(found - discrete)
    carrier = next((u for u in units if channels and all(_is_continuous(u, c) for c in channels)), None)
    if carrier is None:
        return
    select = {"type": "interval", "encodings": channels, "zoom": WHEEL}
    carrier.setdefault("params", []).append({"name": name, "select": select, "bind": "scales"})
    for unit in units:
        unit["mark"].setdefault("clip", True)


def _is_continuous(unit: Spec, channel: str) -> bool:
    part = unit.get("encoding", {}).get(channel)
    return isinstance(part, dict) and part.get("type") in _CONTINUOUS and "field" in part and "bin" not in part


def _is_discrete(unit: Spec, channel: str) -> bool:
    part = unit.get("encoding", {}).get(channel)
    return isinstance(part, dict) and part.get("type") in ("nominal", "ordinal")


def _parts(channel: Any) -> list[Spec]:
    return [part for part in (channel if isinstance(channel, list) else [channel]) if isinstance(part, dict)]


def _type(unit: Spec) -> str:
    mark = unit.get("mark", "")
    return str(mark.get("type", "")) if isinstance(mark, dict) else str(mark)


def _finish(node: Any) -> None:
    """What Vega-Lite has no word for: unseen points that show themselves under the pointer, and names in a legend that
    fade with their series."""
    if isinstance(node, list):
        for part in node:
            _finish(part)
        return
    if not isinstance(node, dict):
        return
    if str(node.get("name", "")).startswith("hit_") and "encode" in node:
        node["encode"]["hover"] = {"fillOpacity": {"value": 1}}
    for legend in node.get("legends", ()):
        for part in ("symbols", "labels"):
            update = legend.get("encode", {}).get(part, {}).get("update", {})
            name, field = _switch(update.get("opacity"))
            if name:
                test = f'{name}["{field}"] && indexof({name}["{field}"], datum.value) >= 0'
                update["opacity"] = [{"test": test, "value": HIDDEN}, {"value": 1}]
    for part in node.values():
        _finish(part)


def _switch(opacity: Any) -> tuple[str, str]:
    """The parameter and the field that a legend's entries were made to heed; two empty texts if none."""
    text = str(opacity[0].get("test", "")) if isinstance(opacity, list) and opacity else ""
    if 'data("off_' not in text:
        return "", ""
    name = text.split('data("', 1)[1].split("_store", 1)[0]
    return name, text.split(f'{name}["', 1)[1].split('"]', 1)[0] if f'{name}["' in text else ""


def _short(text: str) -> str:
    """The data of a chart, as JSON, with its numbers to seven digits: more than a picture shows, and half the size."""
    return _DIGITS.sub(lambda match: f"{float(match[0]):.7g}", text)


def _printable(node: Any) -> Any:
    if isinstance(node, str):
        return printable(node, keep="\n\t")
    if isinstance(node, list):
        return [_printable(part) for part in node]
    if isinstance(node, dict):
        parts = {key: _printable(part) for key, part in node.items()}
        if isinstance(parts.get("values"), str):
            parts["values"] = _short(parts["values"])
        return parts
    return node
