"""What the claims rest on: which eigenvalue the sharpness is, and what rescaling weights does to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgescope.report import Finding, judge
from edgescope.store import Record
from edgescope.studies.seen import together
from edgescope.studies.tradeoff.curves import Curve

SAME = 1e-4
"""Relative change that counts as none, in float32: 1e-6 of the loss in float64, a hundred times that here."""

DINH = "Dinh et al. 2017 (arXiv 1703.04933)"

INVARIANT = {
    "adaptive, average": ("average_sharpness", ""),
    "adaptive, worst case": ("worst_case_sharpness", ""),
    "path norm": ("path_norm", ""),
}


def sign_of_curvature(curves: Mapping[str, Curve]) -> Finding:
    sizes = {name: -curve.least / curve.start for name, curve in curves.items()}
    measured = {f"{name}: |λ_min| / λ_max": size for name, size in sizes.items()}
    measured |= {f"{name}: |λ_min| / s_GF": -curve.least / curve.highest for name, curve in curves.items()}
    worst = max(sizes.values(), default=np.nan)
    return Finding(
        claim="At the initialisation the eigenvalue of largest size is the largest eigenvalue",
        source="definition of S = max |λ|",
        expected="|λ_min| below λ_max, for every network",
        measured=measured,
        verdict=judge(worst < 1, worst),
        why="The smallest and the largest eigenvalue of the Hessian at the start. Where this holds, a largest "
        "eigenvalue is the paper's sharpness; later the largest grows. Where it fails, s_GF is the same for both as "
        "long as |λ_min| is below it: only the start is another.",
        status="derived",
    )


def rescaled(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdicts = []
    for name, record in runs.items():
        if not name.startswith("rescaled"):
            continue

        def over_first(measure: str, part: str, record: Record = record) -> float:
            values = record.series(measure, part)[1]
            return float(values[-1] / values[0]) if values.size > 1 else float("nan")

        loss, raw = over_first("loss", "train"), over_first("sharpness", "1")
        kept = {title: over_first(*key) for title, key in INVARIANT.items()}
        measured |= {f"{name}: loss": loss, f"{name}: raw sharpness": raw}
        measured |= {f"{name}: {title}": value for title, value in kept.items()}
        same = [abs(value - 1) <= limit for value, limit in ((loss, SAME), *((v, 0.02) for v in kept.values()))]
        verdicts.append(judge(all(same) and abs(raw - 1) > 0.5, loss, raw, *kept.values()))
    return Finding(
        claim="Rescaling weights changes the raw sharpness and not the function; adaptive sharpness does not change",
        source=DINH,
        expected=f"last over first: loss 1 to {SAME:g}, adaptive sharpness and path norm 1 to 2%, raw sharpness off by "
        "half or more",
        measured=measured,
        verdict=together(verdicts),
        why="A ReLU network, its first layer doubled and the next halved, three times. So a raw sharpness says nothing "
        "about a function by itself; along a curve of rates from one initialisation it is compared with itself.",
        status="derived and checked",
    )
