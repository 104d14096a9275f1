"""The figures of the study `tradeoff`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from edgescope.experiments.study_run import Runs
from edgescope.experiments.tradeoff.curves import Curve, networks
from edgescope.experiments.tradeoff.diagonal_descents import descents
from edgescope.figures import Figure, rate_panels, tradeoff_panels
from edgescope.training import tradeoff_table

WHOLE = ("MLP-MSE", "ViT-CE")
"""Networks that are shown by themselves, in their own units."""

MOST = 6
"""Curves in one picture."""


def tradeoff_figures(runs: Runs) -> list[Figure]:
    """The pictures of the report: of every network its first curve."""
    items = networks()(runs)
    first = {item.name: item.value[0] for item in items}
    plain = {item.name: item.value[0] for item in items if item.factors["varied"] == "none"}
    return [
        *_whole(first),
        *_compared(
            "networks",
            "All networks over their critical learning rates",
            "Final sharpness, norms and test loss, each over that of gradient flow at the same training loss, for all "
            "learning rates that reached it. Dashed: 2/η, for networks whose flow is sharpest at its end.",
            plain,
        ),
        *_compared(
            "variations",
            "Data size, width, threshold and initialisation",
            "The fully connected network with the half-squared loss, one thing changed at a time; axes as above.",
            {name: curve for name, curve in first.items() if name not in plain},
        ),
        *_objections(first),
        *_one_sample(runs),
        *_several_samples(runs),
    ]


def _whole(first: Mapping[str, Curve]) -> Iterator[Figure]:
    for group in WHOLE:
        if group not in first:
            continue
        curve = first[group]
        yield Figure(
            f"tradeoff-{group.lower()}",
            f"The norm-sharpness trade-off: {group}",
            f"Full-batch descent from one initialisation to a training loss of {curve.threshold:g}. Shaded: below the "
            "critical learning rate 2/s_GF descent follows gradient flow; above it it is at the edge of stability "
            "where its sharpness is 2/η to 10%, as far as the shade goes. The ring marks the lowest test loss.",
            tradeoff_panels(tradeoff_table(curve.descents, curve.critical_lr), critical_lr=curve.critical_lr),
        )


def _over_the_flow(curves: Mapping[str, Curve]) -> pl.DataFrame:
    """What descent ends with over what gradient flow ends with: panel, run, ratio, value."""
    panels = {
        "sharpness / flow's": "sharpness",
        "l1 norm / flow's": "l1",
        "l2 norm / flow's": "l2",
        "test loss / flow's": "test_loss",
    }
    return pl.concat(
        curve.reached.select(
            panel=pl.lit(title), run=pl.lit(name), ratio="ratio", value=pl.col(column) / curve.flow[column]
        )
        for title, column in panels.items()
        for name, curve in curves.items()
        if column in curve.flow
    )


def _edge(curves: Mapping[str, Curve]) -> dict[str, pl.DataFrame]:
    """The hyperbola 2/η on the axes of :func:`_over_the_flow`, where s_GF is also what the flow ends with."""
    largest = max(float(curve.reached["ratio"].max()) for curve in curves.values())  # type: ignore[arg-type]
    ratios = np.geomspace(1, max(largest, 1.01), 60)
    return {"sharpness / flow's": pl.DataFrame({"ratio": ratios, "value": 1 / ratios})}


def _compared(name: str, title: str, caption: str, curves: Mapping[str, Curve]) -> Iterator[Figure]:
    shown = {group: curve for group, curve in curves.items() if curve.reached.height and curve.flow_reached}
    parts = [dict(list(shown.items())[start : start + MOST]) for start in range(0, len(shown), MOST)]
    for number, part in enumerate(parts):
        more = f" ({number + 1} of {len(parts)})" if len(parts) > 1 else ""
        chart = rate_panels(_over_the_flow(part), expected=_edge(part))
        yield Figure(f"{name}-{number + 1}" if number else name, title + more, caption, chart)


def _objections(first: Mapping[str, Curve]) -> Iterator[Figure]:
    if "MLP-MSE" not in first:
        return
    curve = first["MLP-MSE"]
    norms = {"as it is": "l1", "averaged": "averaged_l1", "after small steps": "decayed_l1"}
    scales = {
        "raw sharpness": "sharpness",
        "adaptive, average": "adaptive",
        "adaptive, worst case": "adaptive_worst",
        "path norm": "path_norm",
    }
    tables = []
    for panel, columns in (("l1 norm / flow's", norms), ("over its first value", scales)):
        for title, column in columns.items():
            rows = curve.reached.select("ratio", value=pl.col(column)).drop_nulls()
            if rows.height:
                whole = curve.flow["l1"] if columns is norms else rows["value"][0] or 1
                shown = pl.col("value") / whole
                tables.append(rows.select(panel=pl.lit(panel), run=pl.lit(title), ratio="ratio", value=shown))
    yield Figure(
        "objections",
        "What reviewers ask: oscillation, and the scale of weights",
        "Above: the l1 norm of the last iterate, of the mean of the next iterates, and after steps a tenth as long; "
        "where the three agree, its growth is no oscillation. Below: the raw sharpness beside quantities that "
        f"rescaling weights does not change, each over its value at the smallest learning rate. {curve.name}.",
        rate_panels(pl.concat(tables)),
    )


def _one_sample(runs: Runs) -> Iterator[Figure]:
    for item in descents("one")(runs):
        one, rows = item.value, item.value.converged
        targets = {
            "target between": rows.select("ratio", "sharpness", "squared_l2", "l1", "risk"),
            "target at the norm minimiser": rows.select("ratio", risk="risk/norm"),
            "target at the sharpness minimiser": rows.select("ratio", risk="risk/sharpness"),
        }
        columns = {"sharpness": "sharpness", "l2 norm²": "squared_l2", "l1 norm": "l1", "test error": "risk"}
        ratios = np.geomspace(1, one.values("ratio").max(), 60)
        edge = pl.DataFrame({"ratio": ratios, "value": 2 / (ratios * one.flow["critical_lr"])})
        yield Figure(
            "diagonal-one-sample",
            "In closed form: a diagonal network on one sample",
            "Where descent ends, by learning rate. Dashed: 2/η. The test error of a target between the two minimisers "
            "is least inside; for a target at either minimiser one bias alone is best.",
            rate_panels(_panels(targets, columns), expected={"sharpness": edge}),
        )


def _several_samples(runs: Runs) -> Iterator[Figure]:
    tables = {}
    for item in descents("several")(runs)[:MOST]:
        flow = item.value.flow
        tables[item.factors["seed"]] = item.value.converged.select(
            "ratio",
            edge=pl.col("sharpness") * pl.col("lr") / 2,
            l2=pl.col("squared_l2") / flow["squared_l2_norm"],
            risk=pl.col("risk") / flow["risk"],
        )
    if tables:
        columns: dict[str, str] = {"sharpness / (2/η)": "edge", "l2² / flow's": "l2", "test error / flow's": "risk"}
        yield Figure(
            "diagonal-several-samples",
            "Diagonal networks on several samples",
            "Random regressions with fewer samples than inputs, a colour a draw; only learning rates at which descent "
            "converges.",
            rate_panels(_panels(tables, columns)),
        )


def _panels(tables: Mapping[str, pl.DataFrame], columns: Mapping[str, str]) -> pl.DataFrame:
    return pl.concat(
        rows.select(panel=pl.lit(title), run=pl.lit(name), ratio="ratio", value=pl.col(column).cast(pl.Float64))
        for title, column in columns.items()
        for name, rows in tables.items()
        if column in rows.columns
    )
