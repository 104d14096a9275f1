"""Pictures of networks that are not linear: their loops, their delays, and the one that learns addition."""

from __future__ import annotations

import polars as pl

from edgescope.experiments.phases.escape_levels import levels_of_network, mean_times
from edgescope.experiments.phases.loops import points
from edgescope.experiments.phases.readings import ADDITION, ADDITION_SWEEPS, NETWORKS
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure, arrhenius_lines, hysteresis_loops, stacked_panels

LOOPS = ["panel", "way", "decay", "order"]


def network_figures(runs: Runs) -> list[Figure]:
    """The pictures that the records allow, in reading order."""
    drawn = (_loops, _delays, _addition_loops, _addition)
    return [figure for draw in drawn if (figure := draw(runs)) is not None]


def _loops(runs: Runs) -> Figure | None:
    rows = [(item.name, *point) for item in NETWORKS(runs) for point in points(item.value, "norm")]
    if not rows:
        return None
    table = pl.DataFrame(rows, schema=LOOPS, orient="row")
    return Figure(
        "networks",
        "Weight decay up and down: networks that are not linear",
        "Norm of the weights as decay rises (circles) and falls again (squares), each from where the last ended.",
        hysteresis_loops(table, y_title="norm of weights", columns=2, logarithmic=True),
    )


def _delays(runs: Runs) -> Figure | None:
    table = mean_times([(item.name, level) for item in NETWORKS(runs) for level in levels_of_network(item.value)])
    if table.is_empty():
        return None
    return Figure(
        "network-delays",
        "Does the delay of these networks follow their barrier?",
        "Mean time in the trap under Langevin noise with 95% intervals, against the height of the lowest path out of "
        "it over the temperature, at three decays each, without a point where none escaped. Kramers' law is a line "
        "that rises by e for each unit.",
        arrhenius_lines(table, x_title="barrier / T"),
    )


def _addition_loops(runs: Runs) -> Figure | None:
    found = ADDITION_SWEEPS(runs)
    if not found:
        return None
    names = ("test accuracy", "training accuracy", "norm")
    rows = [(name, *point) for name in names for point in points(found[0].value, name)]
    return Figure(
        "addition-loops",
        "Weight decay up and down: the network that learns addition",
        "Accuracies and norm of study `grokking`'s network as decay rises (circles) and falls again (squares).",
        hysteresis_loops(pl.DataFrame(rows, schema=LOOPS, orient="row"), y_title="value", logarithmic=True),
    )


def _addition(runs: Runs) -> Figure | None:
    found = ADDITION(runs)
    if not found:
        return None
    p = found[0].value
    tables = [
        pl.DataFrame({"step": p.array("at"), "value": p.array(key)[:, k]}).with_columns(
            panel=pl.lit(panel), run=pl.lit(f"decay {decay:g}")
        )
        for key, panel in (("train", "training accuracy"), ("test", "test accuracy"))
        for k, decay in enumerate(p.array("decay"))
    ]
    return Figure(
        "addition",
        "Memorised first, understood later: addition at several decays",
        "The same start and the same pairs at each decay, by full-batch descent without noise.",
        stacked_panels(pl.concat(tables)),
    )
