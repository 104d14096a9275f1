"""Claims about paths, and about networks that are not linear: is there a loop, a barrier?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgescope.errors import InputError
from edgescope.phases import EscapeTimes, Estimate, arrhenius
from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.phases.source import DERIVED, UNKNOWN, Piece, named, pieces_of
from edgescope.studies.seen import by_run

LOOP = 0.1
"""A loop is an area of the norm, over its range and per unit of ln(decay), above this: in ln(decay) 0.1 is a tenth."""


def network_findings(runs: Mapping[str, Record]) -> list[Finding]:
    return [_paths(runs), _loops(runs), _jumps(runs), _barriers(runs), _delays(runs)]


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
        measured[f"{p.note}: share of decays at which it settled"] = p.values["settled"]
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
        "Where something changed much, decays between two neighbours were looked at too.",
        status="ours",
    )


def _barriers(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: dict[str, Verdict] = {}
    names = ("path decays", "height", "back", "error")
    for p in networks_of(runs, names):
        row = {name: float(p.arrays[name][0]) for name in names}
        measured |= {f"{p.note}: {name.removeprefix('path ').rstrip('s')}": value for name, value in row.items()}
        verdicts[p.note] = judge(min(row["height"], row["back"]) > 2 * row["error"], row["height"], row["back"])
    verdict, which = by_run(verdicts)
    return Finding(
        claim="A barrier stands between the states of both ways, at the highest decay of the loop",
        source="question beyond the paper",
        expected="the lowest path found is higher than both states, by more than twice the error of its height",
        measured=measured,
        verdict=verdict,
        why=f"{which}From the state on the way down towards that on the way up, at the highest decay where the gap of "
        "their norms is a quarter of the widest; the loss has its decay in it. Zero from one end: it was not trapped. "
        "A path that had not converged does not count.",
        status="ours",
    )


def escapes_at(p: Piece) -> tuple[list[float], list[EscapeTimes]]:
    """The barriers over T of a network, and the escape times there; none where no barrier was found."""
    temperature = p.values["temperature"]
    pairs = zip(p.arrays["height"], p.arrays["times"], p.arrays["escaped"], strict=False)
    found = [(float(h) / temperature, EscapeTimes(t, e > 0)) for h, t, e in pairs if temperature > 0 and np.isfinite(h)]
    return [x for x, _ in found], [times for _, times in found]


def _delays(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: dict[str, Verdict] = {}
    for p in networks_of(runs, ("height", "times", "escaped")):
        heights, times = escapes_at(p)
        if not times:
            continue
        for k, (height, time) in enumerate(zip(heights, times, strict=True), start=1):
            measured |= {
                f"{p.note}: barrier {k} / T": height,
                f"{p.note}: escaped of {len(time.times)} ({k})": float(time.escapes),
            }
        slope = _slope(heights, times)
        measured |= {f"{p.note}: {key}": value for key, value in named("slope", slope).items()}
        verdicts[p.note] = judge(slope.low > 0, slope.low)
    verdict, which = by_run(verdicts)
    return Finding(
        claim="Under Langevin noise the time in their trap follows the barrier of the path out of it",
        source="question beyond the paper; Kramers' law has the slope 1",
        expected="ln(mean time) rises with barrier/T, the 95% interval of its slope above 0",
        measured=measured,
        verdict=verdict,
        why=f"{which}Full-batch Langevin descent from the lower state until the loss is midway to the other, at three "
        "decays up to the end of the loop, one temperature for all: the middle barrier over width + 4, so that noise "
        "does not melt it. Runs cut off count with the time they were watched.",
        status="ours",
    )


def _slope(heights: list[float], times: list[EscapeTimes]) -> Estimate:
    try:
        return arrhenius(heights, times)
    except InputError:
        return UNKNOWN
