"""Pictures of networks that are not linear: their loops, their delays, and the one that learns addition."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from edgescope.figures import Figure, arrhenius_lines, hysteresis_loops, stacked_panels
from edgescope.store import Record
from edgescope.studies.phases.claims_of_addition import ARRAYS
from edgescope.studies.phases.claims_of_networks import escapes_at, networks_of
from edgescope.studies.phases.source import Piece, pieces_of

LOOPS = ["panel", "way", "decay", "order"]


def network_figures(runs: Mapping[str, Record]) -> list[Figure]:
    return [*_loops(runs), *_delays(runs), *_addition_loops(runs), *_addition(runs)]


def _loops(runs: Mapping[str, Record]) -> list[Figure]:
    rows = [row for p in networks_of(runs, ("decays", "up/norm", "down/norm")) for row in _ways(p, "norm", p.note)]
    if not rows:
        return []
    return [
        Figure(
            "networks",
            "Weight decay up and down: networks that are not linear",
            "Norm of the weights as decay rises (circles) and falls again (squares), each from where the last ended.",
            hysteresis_loops(
                pl.DataFrame(rows, schema=LOOPS, orient="row"), y_title="norm of weights", columns=2, logarithmic=True
            ),
        )
    ]


def _delays(runs: Mapping[str, Record]) -> list[Figure]:
    rows = []
    for p in networks_of(runs, ("height", "times", "escaped")):
        for height, times in zip(*escapes_at(p), strict=True):
            if times.escapes >= 2:
                mean = times.mean()
                rows.append((p.note, height, mean.low, mean.value, mean.high))
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["run", "x", "low", "middle", "high"], orient="row")
    return [
        Figure(
            "network-delays",
            "Does the delay of these networks follow their barrier?",
            "Mean time in the trap under Langevin noise with 95% intervals, against the height of the lowest path out "
            "of it over the temperature, at three decays each, without a point where none escaped. Kramers' law is a "
            "line that rises by e for each unit.",
            arrhenius_lines(table, x_title="barrier / T"),
        )
    ]


def _addition_loops(runs: Mapping[str, Record]) -> list[Figure]:
    names = ("test accuracy", "training accuracy", "norm")
    wanted = ("decays", *(f"{way}/{name}" for way in ("up", "down") for name in names))
    found = pieces_of(runs, "addition", "addition sweep", wanted)
    if not found:
        return []
    rows = [row for name in names for row in _ways(found[0], name, name)]
    return [
        Figure(
            "addition-loops",
            "Weight decay up and down: the network that learns addition",
            "Accuracies and norm of study `grokking`'s network as decay rises (circles) and falls again (squares).",
            hysteresis_loops(pl.DataFrame(rows, schema=LOOPS, orient="row"), y_title="value", logarithmic=True),
        )
    ]


def _addition(runs: Mapping[str, Record]) -> list[Figure]:
    found = pieces_of(runs, "addition", "addition", ARRAYS)
    if not found:
        return []
    arrays = found[0].arrays
    tables = [
        pl.DataFrame({"step": arrays["at"], "value": arrays[key][:, k]}).with_columns(
            panel=pl.lit(panel), run=pl.lit(f"decay {decay:g}")
        )
        for key, panel in (("train", "training accuracy"), ("test", "test accuracy"))
        for k, decay in enumerate(arrays["decay"])
    ]
    return [
        Figure(
            "addition",
            "Memorised first, understood later: addition at several decays",
            "The same start and the same pairs at each decay, by full-batch descent without noise.",
            stacked_panels(pl.concat(tables)),
        )
    ]


def _ways(p: Piece, name: str, panel: str) -> list[tuple[str, str, float, float]]:
    return [
        (panel, way, float(decay), float(value))
        for way in ("up", "down")
        for decay, value in zip(p.arrays["decays"], p.arrays[f"{way}/{name}"], strict=True)
    ]
