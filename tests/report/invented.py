"""Invented findings of every kind, and a report of them: for tests of the page, and to look at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edgescope import __version__
from edgescope.claims import Case, Claim, Finding, Region, Row, judge
from edgescope.figures import Figure, interval_dots, loss_curves, ratio_curves, stacked_panels
from edgescope.report import write_report
from edgescope.statistics.estimate import UNKNOWN, Estimate

HOSTILE = """</script><script>alert("x")</script> & <!-- </style> {{ 7 * 7 }} 'q' <img src=http://example.org/a.png>"""

METHODS = ("gradient descent", "momentum 0.9", "Adam", "RMSProp", "SAM, ρ = 0.1")
NETWORKS = ("fully connected, tanh", "convolutional, ReLU", "transformer, 2 blocks")
LOSSES = ("squared error", "cross-entropy")
SENTENCES = (
    "Under full-batch gradient descent the sharpness rises until it reaches 2/η and then hovers around or above it",
    "The training loss falls over long times although it does not fall at every step",
    "The preconditioned sharpness settles at the threshold of the optimizer",
    "Directional smoothness hovers around the threshold in every geometry",
    "The sharpness at the end decreases with the learning rate",
    "The largest eigenvalue of the Hessian oscillates with period two once the edge is reached",
    "Flatter minima found at larger learning rates have the smaller test error",
    "The loss falls exactly when the directional smoothness is at most the threshold",
    "Progressive sharpening is faster at the beginning of training than in its middle",
    "Networks trained past the edge have a smaller ℓ₁ norm than gradient flow",
    "The escape time grows exponentially with the barrier over the temperature",
)


def make_finding(number: int = 0, kind: str = "holds", **changes: Any) -> Finding:
    """A finding of one kind: holds, mixed, fails, open, average, some, exact, log, empty, wild, many or lone."""
    rng = np.random.default_rng(number)
    claim: dict[str, Any] = {
        "id": f"edge.{kind}-{number}",
        "sentence": SENTENCES[number % len(SENTENCES)],
        "source": "Cohen, Kaur, Li, Kolter, Talwalkar (2021), ICLR",
        "quantity": "time mean of sharpness over threshold, λ₁η/2",
        "region": Region.around(1, 0.1),
        "origin": "the paper's figures; its text says “just above”",
        "figure": ("ratio", "loss", "own")[number % 3] if number != 2 else "own",
        "how": "Mean of λ₁η/2 over the steps after the first arrival at the threshold, with the effective sample size.",
    }
    cases = [
        Case(
            f"{method}, {network}, {loss}",
            _around(1.0 + 0.02 * rng.standard_normal(), 0.03),
            factors={"method": method, "network": network, "loss": loss},
            beside=(Row("steps after arrival", float(rng.integers(80, 400))), Row.of("largest", _around(1.2, 0.1), "")),
        )
        for method in METHODS[:2]
        for network in NETWORKS
        for loss in LOSSES
    ]
    if kind == "mixed":
        cases = [_but(c, _around(1.7, 0.1), c.factors["loss"] == "cross-entropy") for c in cases]
    elif kind == "fails":
        cases = [_but(c, _around(0.4, 0.1), True) for c in cases]
    elif kind == "open":
        cases = [_but(c, UNKNOWN, i < 8, "never reached the edge", "about 400 more steps") for i, c in enumerate(cases)]
    elif kind == "average":
        claim |= {"scope": "average", "status": "ours", "region": Region(0, math.inf), "origin": "our choice"}
        cases = [_but(c, _around(0.3 + 0.2 * rng.standard_normal(), 0.5), True) for c in cases]
    elif kind == "some":
        claim |= {"scope": "some", "status": "second hand"}
        cases = [_but(c, _around(0.4, 0.1), i > 0) for i, c in enumerate(cases)]
    elif kind == "exact":
        claim |= {"quantity": "signs that disagree", "region": Region(0, 0), "unit": "%", "status": "derived"}
        cases = [_but(c, Estimate.exact(0), True) for c in cases[:4]]
    elif kind == "log":
        claim |= {"quantity": "escape time over its prediction", "region": Region(0.5, 2)}
        cases = [_but(c, _times(10.0 ** (i - 4)), True) for i, c in enumerate(cases)]
    elif kind == "empty":
        cases = []
    elif kind == "wild":
        cases[0] = _but(cases[0], Estimate(math.inf, math.inf, math.inf), True)
        cases[1] = _but(cases[1], Estimate(-math.inf), True)
        cases[2] = _but(cases[2], Estimate(50, 40, math.inf), True)
        cases[3] = _but(cases[3], Estimate(1.02), True, "one run, and no way to an interval", "more seeds")
        cases[4] = _but(cases[4], Estimate(1.02, -100, 4), True)
    elif kind == "many":
        cases = [Case(f"draw {i}", _around(1 + 0.05 * rng.standard_normal(), 0.02)) for i in range(120)]
    elif kind == "lone":
        cases = [Case("the run", _around(1.0, 0.01))]
    return judge(Claim(**claim | changes), cases)


KINDS = ("holds", "holds", "mixed", "fails", "open", "average", "some", "exact", "log", "wild", "many", "lone", "empty")


def many_findings(count: int = 44) -> list[Finding]:
    """Findings of all kinds."""
    return [make_finding(number, KINDS[number % len(KINDS)]) for number in range(count)]


def figures() -> list[Figure]:
    """A figure that several claims name, one that a single claim names, and others."""
    steps = np.arange(300)
    rows = [
        {"run": run, "step": int(step), "ratio": float(min(1, 0.2 + step / (100 + 50 * k)) + 0.03 * np.sin(step + k))}
        for k, run in enumerate(METHODS)
        for step in steps
    ]
    table = pl.DataFrame(rows)
    losses = pl.concat(
        [
            table.select(
                "run", "step", loss=(-pl.col("step") / 80).exp() + level * pl.col("ratio"), split=pl.lit(split)
            )
            for split, level in (("train", 0.01), ("test", 0.1))
        ]
    )
    dots = pl.DataFrame(
        {
            "run": list(METHODS),
            "low": [0.9] * 5,
            "middle": [1.0] * 5,
            "high": [1.2] * 5,
            "group": ["a", "b", "a"] + ["b"] * 2,
        }
    )
    panels = pl.concat(
        [
            table.filter(pl.col("run").is_in(METHODS[:2])).select("run", "step", panel=pl.lit(name), value="ratio")
            for name in ("sharpness", "loss")
        ]
    )
    return [
        Figure(
            "ratio",
            "Sharpness over threshold",
            "Each curve is a run; the dashed line is the threshold.",
            ratio_curves(table),
        ),
        Figure("loss", "Training loss", "Training loss of the same runs.", loss_curves(losses)),
        Figure("own", "Panels", "Two quantities over the same steps.", stacked_panels(panels)),
        Figure("dots", "Settled values", "Mean with its range.", interval_dots(dots, expected=1.0, near=0.1)),
    ]


def write_invented(folder: Path, findings: list[Finding] | None = None, **changes: Any) -> Path:
    """A report of invented findings in ``folder``."""
    findings = many_findings() if findings is None else findings
    ids = [f.id for f in findings]
    values: dict[str, Any] = {
        "title": "The edge of stability under many optimizers",
        "abstract": "Networks are trained with five optimizers on images, and what the papers say of them is measured.",
        "paper": "Cohen, Kaur, Li, Kolter, Talwalkar (2021), ICLR",
        "findings": findings,
        "figures": figures(),
        "runs": [
            {
                "run": m,
                "data": "fashion",
                "lr": 0.02,
                "steps": 400,
                "status": "finished",
                "gradients": 401,
                "seconds": 21.5,
            }
            for m in METHODS
        ],
        "cost": {"gradients": 2005, "seconds": 80.0},
        "versions": {"edgescope": __version__, "commit": "abc123"},
        "command": "edgescope run edge --seed 0",
        "notes": [{"about": "diverged", "text": "the loss is infinite", "steps": "12", "runs": "Adam"}],
        "topics": {"Gradient descent": ids[:12], "Adaptive optimizers": ids[12:26], "Geometry": ids[26:40]},
    }
    return write_report(folder, **values | changes)


def _around(value: float, reach: float) -> Estimate:
    return Estimate(value, value - reach, value + reach, 20, "steps")


def _times(value: float) -> Estimate:
    return Estimate(value, value / 1.5, value * 1.5)


def _but(case: Case, estimate: Estimate, changed: bool, why: str = "", needs: str = "") -> Case:
    return Case(case.name, estimate, why, needs, case.factors, case.beside) if changed else case
