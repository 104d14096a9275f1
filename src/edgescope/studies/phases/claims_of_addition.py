"""Claims about the network that learns addition: is its delay that of an escape over a barrier?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgescope.report import Finding, judge
from edgescope.store import Record
from edgescope.studies.phases.claims_of_networks import LOOP
from edgescope.studies.phases.source import Piece, pieces_of

SETTLED = 0.5
"""Share of the decays at which a sweep has to settle before its loop counts."""

ARRAYS = ("decay", "delay", "height", "straight", "rise", "start", "train", "test", "at")

NETWORK = "Two layers of study `grokking` (32 GELU units, addition modulo {modulus:g}, half-squared loss, momentum 0.9)"


def addition_findings(runs: Mapping[str, Record]) -> list[Finding]:
    delays = next(iter(pieces_of(runs, "addition", "addition", ARRAYS)), None)
    return [_loop(runs), _barrier(delays), _follows(delays), _inverse(delays)]


def _loop(runs: Mapping[str, Record]) -> Finding:
    found = pieces_of(runs, "addition", "addition sweep")
    measured: dict[str, float] = {}
    for p in found:
        measured |= {
            f"{p.note}: {k.replace('area/', 'area of the ')}": v for k, v in p.values.items() if k != "settled"
        }
        measured[f"{p.note}: share of decays at which it settled"] = p.values["settled"]
    slow, fast = (p.values["area/test accuracy"] for p in found) if len(found) == 2 else (np.nan, np.nan)
    verdict = judge(slow > LOOP, slow, fast)
    if verdict == "holds" and (slow < 0.8 * fast or found[0].values["settled"] < SETTLED):
        verdict = "inconclusive"
    return Finding(
        claim="Swept in weight decay, the network that learns addition has a loop: what it understood it keeps",
        source="question beyond the paper",
        expected=f"area between both ways of the test accuracy over ln(decay), over its range, above {LOOP:g}, and at "
        f"least 0.8 of that of a faster sweep, settled at {SETTLED:.0%} of the decays",
        measured=measured,
        verdict=verdict,
        why="From decays at which it memorises upwards, and down again. A sweep that does not wait as long as grokking "
        "takes shows the delay too: an area that shrinks where the sweep is slower is no sign of two states, nor is "
        "a network that was still under way.",
        status="ours",
    )


def _barrier(found: Piece | None) -> Finding:
    measured: dict[str, float] = {}
    shares = np.array([])
    if found:
        rows = {name: found.arrays[name] for name in ("decay", "height", "straight", "rise", "start")}
        for decay, height, straight, rise, start in zip(*rows.values(), strict=True):
            row = {
                "lowest path": height,
                "straight line": straight,
                "rise of the run": rise,
                "loss at its start": start,
            }
            measured |= {f"decay {decay:g}: {key}": float(value) for key, value in row.items()}
        shares = (rows["height"] / rows["start"])[np.isfinite(rows["height"])]
    return Finding(
        claim="A barrier stands between what memorises and what generalises",
        source=f"question beyond the paper, whose picture of grokking it is; {_what(found)}",
        expected="at every decay the lowest path rises by more than a hundredth of the loss at its start",
        measured=measured,
        verdict=judge(bool(shares.size) and bool((shares > 0.01).all()), *([] if shares.size else [np.nan])),
        why="From the last state that had learned with a test accuracy below 10% to the last of the run, weight decay "
        "in the loss; first guess: the run itself. Descent without noise went from one to the other, so no barrier can "
        "be higher than the rise of the run, which the edge of stability allows. Read at nine points of the path.",
        status="ours",
    )


def _follows(found: Piece | None) -> Finding:
    measured, known = _delays(found)
    gaps = np.nan
    if found and known.sum() >= 3:
        heights = found.arrays["height"][known] / found.arrays["start"][known]
        gaps = float(np.corrcoef(heights, np.log(found.arrays["delay"][known]))[0, 1]) if np.ptp(heights) > 0 else 0.0
        measured["largest barrier / loss"] = float(heights.max())
        measured["correlation of ln(delay) and barrier"] = gaps
    low = measured.get("largest barrier / loss", np.nan) < 0.01
    return Finding(
        claim="Its delay follows that barrier",
        source=f"question beyond the paper; {_what(found)}",
        expected="barriers above a hundredth of the loss, and ln(delay) correlated with them above 0.8 over decays",
        measured=measured,
        verdict=judge(not low and gaps > 0.8, gaps),
        why="Delay: steps from when half of the training pairs are learned until half of the others are understood. "
        + ("There is a delay and no barrier for it to follow. " if low else "")
        + "A delay without noise is the time of a way down, as on the plateau of deep linear chains.",
        status="ours",
    )


def _inverse(found: Piece | None) -> Finding:
    measured, known = _delays(found)
    slope = np.nan
    if found and known.sum() >= 3:
        slope = float(np.polyfit(np.log(found.arrays["decay"][known]), np.log(found.arrays["delay"][known]), 1)[0])
    return Finding(
        claim="Its delay is inverse to weight decay",
        source="Liu et al. 2023 (arXiv 2210.01117): t in proportion to 1/decay",
        expected="slope of ln(delay) over ln(decay) within 0.3 of -1",
        measured=measured | {"slope": slope},
        verdict=judge(abs(slope + 1) < 0.3, slope),
        why="Their picture: decay carries the weights along a valley of zero training loss to the norm at which the "
        "network generalises. One initialisation and split of the pairs, so the slope has no interval.",
        status="from a neighbouring paper",
    )


def _delays(found: Piece | None) -> tuple[dict[str, float], np.ndarray]:
    """Delays by decay, and which of them are finite."""
    if found is None:
        return {}, np.zeros(0, dtype=bool)
    decays, delays = found.arrays["decay"], found.arrays["delay"]
    measured = {f"decay {d:g}: delay": float(delay) for d, delay in zip(decays, delays, strict=True)}
    return measured, np.isfinite(delays)


def _what(found: Piece | None) -> str:
    return NETWORK.format(modulus=found.values["modulus"] if found else np.nan)
