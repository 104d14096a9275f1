"""Claims about paths, and about networks that are not linear: is there a loop, a barrier?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.phases.source import DERIVED, Piece, pieces_of
from edgescope.studies.seen import by_run

LOOP = 0.1
"""A loop is an area of the norm, over its range and per unit of ln(decay), above this: in ln(decay) 0.1 is a tenth."""


def network_findings(runs: Mapping[str, Record]) -> list[Finding]:
    return [_paths(runs), _loops(runs), _jumps(runs), _barriers(runs)]


def networks_of(runs: Mapping[str, Record], arrays: tuple[str, ...] = ()) -> list[Piece]:
    """The sweeps of networks, one a piece."""
    return [p for name in runs if name.startswith("network-") for p in pieces_of(runs, name, "network", arrays)]


def _paths(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    errors = []
    for p in pieces_of(runs, "paths", "linear path"):
        v = p.values
        row = {"height": v["height"], "closed form": v["up"], "back": v["back"], "closed form, back": v["down"]}
        measured |= {f"depth {v['depth']:g} width {v['width']:g}: {key}": value for key, value in row.items()}
        errors += [abs(v["height"] / v["up"] - 1), abs(v["back"] / v["down"] - 1)]
    worst = max(errors, default=np.nan)
    return Finding(
        claim="The path found between two states of a deep linear network has the height of the closed form",
        source="Edgescope's own aim (es.phases.barrier)",
        expected="within 2%, up and down",
        measured=measured,
        verdict=judge(worst < 0.02, worst),
        why="A nudged elastic band between ends that descent found from random weights.",
        status=DERIVED,
    )


def _loops(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: dict[str, Verdict] = {}
    for p in networks_of(runs):
        measured |= {f"{p.note}: area of the {name}": p.values[f"area/{name}"] for name in ("norm", "rank", "loss")}
        verdicts[p.note] = judge(p.values["area/norm"] > LOOP, p.values["area/norm"])
    verdict, which = by_run(verdicts)
    return Finding(
        claim="Networks that are not linear have a hysteresis loop in weight decay",
        source="question beyond the paper",
        expected=f"area between both ways of the norm over ln(decay), over its range, above {LOOP:g}",
        measured=measured,
        verdict=verdict,
        why=f"{which}Full-batch descent with momentum, each decay from where the last ended, jitter of 0.001 at each. "
        "What did not settle within its steps widens a loop too.",
        status="ours",
    )


def _jumps(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: dict[str, Verdict] = {}
    for p in networks_of(runs):
        row = {key: p.values.get(f"{key}/rank", 0.0) for key in ("jumps", "largest", "at")}
        names = {"jumps": "jumps of the rank", "largest": "largest, of its range", "at": "at decay"}
        measured |= {f"{p.note}: {names[key]}": value for key, value in row.items()}
        verdicts[p.note] = judge(row["largest"] > 0.5, row["largest"])
    verdict, which = by_run(verdicts)
    return Finding(
        claim="Their rank falls in one jump, as at a first-order transition",
        source="question beyond the paper",
        expected="more than half of the range of the rank between two neighbouring decays",
        measured=measured,
        verdict=verdict,
        why=f"{which}Rank of the outputs over the data, singular values above 5% of the first at the lowest decay. "
        "Decays are evenly spaced in their logarithm, a factor of 2.7 or less apart.",
        status="ours",
    )


def _barriers(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: dict[str, Verdict] = {}
    for p in networks_of(runs):
        v = p.values
        row = {"decay": v["path decay"], "height": v["height"], "back": v["back"]}
        measured |= {f"{p.note}: {key}": value for key, value in row.items()}
        depth = min(v["height"], v["back"])
        verdicts[p.note] = judge(depth > 1e-3 * v["start"], depth)
    verdict, which = by_run(verdicts)
    return Finding(
        claim="A barrier stands between the states of both ways, at the highest decay of the loop",
        source="question beyond the paper",
        expected="path higher than both ends, by more than a thousandth of the loss at the start",
        measured=measured,
        verdict=verdict,
        why=f"{which}From the state on the way down to that on the way up, at the highest decay at which the gap of "
        "their norms is a quarter of the widest; the loss has its decay in it. Zero from one end: it was not trapped.",
        status="ours",
    )
