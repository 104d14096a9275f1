"""The claims about the edge of stability in other norms, each judged from the records of the runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import kendalltau

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.geometries.claims_beside import beside_findings
from edgescope.studies.geometries.descents import ISLAMOV, Descent, descents_of
from edgescope.studies.seen import ENOUGH, by_run, together

SMOOTH, LOW, HIGH = 0.10, 0.90, 1.30
"""How far the time-mean of D may lie from its threshold, and between which shares of it that of S (claim 2)."""

NORMALIZED = 0.20
"""How far the time-mean of S may lie from the threshold of a normalized method (claim 3)."""

FAR_BELOW = 0.5
"""What "far below" means for the plain eigenvalue over 2/η (claim 4)."""

DIVERGED = 100.0
"""The largest loss ahead over the present one beyond which a model, or a network, is said to diverge."""

WINDOW = 10
"""Steps over which the cosine of output changes is averaged to say that outputs oscillate."""

TITLES = {
    "GD": "Under gradient descent",
    "preconditioned": "Under preconditioned descent (a random positive diagonal)",
    "Linf": "Under Linf descent",
    "blocks": "Under block descent",
    "spectral": "Under Spectral descent",
}


def geometry_findings(runs: dict[str, Record]) -> list[Finding]:
    """A verdict on every claim of the study."""
    descents = descents_of(runs)
    return [
        *(
            _hovering(_of(descents, method), f"{title} S and D rise to 2/η and hover")
            for method, title in TITLES.items()
        ),
        _normalized(_of(descents, "sign"), "Under sign descent S/|g|₁ settles at 2/η"),
        _normalized(
            _of(descents, "spectral-normalized"),
            "Under normalized Spectral descent S over the nuclear norm settles at 2/η",
        ),
        _plain_eigenvalue(_of(descents, "Linf", "spectral")),
        _order_of_events(_of(descents, "Linf", "spectral"), _of(descents, "GD")),
        _several_directions(_of(descents, "GD")),
        _quadratic_model(_of(descents, *TITLES)),
        _norms_in_order(_of(descents, "Linf", "sign", "spectral", "spectral-normalized", "blocks")),
        *beside_findings(runs),
    ]


def _of(descents: dict[str, Descent], *methods: str) -> dict[str, Descent]:
    return {name: run for name, run in descents.items() if run.method in methods}


def _each(runs: dict[str, Descent], verdict: Callable[[Descent], Verdict]) -> tuple[Verdict, str]:
    """One verdict over all runs, and which runs it comes from, in words."""
    return by_run({name: verdict(run) for name, run in runs.items()})


def _hovering(runs: dict[str, Descent], claim: str) -> Finding:
    def verdict(run: Descent) -> Verdict:
        if run.sharpness.after.size < ENOUGH:
            return "inconclusive"
        return judge(LOW <= run.sharpness.mean <= HIGH and abs(run.smoothness_mean - 1) <= SMOOTH)

    measured: dict[str, float] = {}
    for name, run in runs.items():
        measured |= {
            f"{name}: S": run.sharpness.mean,
            f"{name}: S, certified upper": run.upper_mean,
            f"{name}: D": run.smoothness_mean,
        }
    arrived = sum(run.sharpness.after.size >= ENOUGH for run in runs.values())
    overall, where = _each(runs, verdict)
    return Finding(
        claim=claim,
        source=ISLAMOV,
        expected=f"time-means over 2/η after crossing: D within {SMOOTH:.0%} of 1, S from {LOW:.2f} to {HIGH:.2f}",
        measured=measured,
        verdict=overall,
        why=f"{where}{arrived} of {len(runs)} runs crossed and stayed for {ENOUGH} measurements. S and D count from "
        "their own first crossing (D from that of S if it never crosses); S is the value from below, as in the paper, "
        "beside the certificate that no paper has, a mean over every fourth reading.",
        status="from the paper",
    )


def _normalized(runs: dict[str, Descent], claim: str) -> Finding:
    def verdict(run: Descent) -> Verdict:
        return (
            judge(abs(run.sharpness.mean - 1) <= NORMALIZED) if run.sharpness.after.size >= ENOUGH else "inconclusive"
        )

    measured: dict[str, float] = {}
    for name, run in runs.items():
        measured |= {
            f"{name}: S": run.sharpness.mean,
            f"{name}: S, certified upper": run.upper_mean,
            f"{name}: D": run.smoothness_mean,
        }
    overall, where = _each(runs, verdict)
    return Finding(
        claim=claim,
        source=ISLAMOV,
        expected=f"time-mean of S over 2|g|*/η after crossing, within {NORMALIZED:.0%} of 1",
        measured=measured,
        verdict=overall,
        why=f"{where}S is the value from below, as in the paper, |g|* the dual norm of the gradient at the same point. "
        "D is given for comparison.",
        status="from the paper",
    )


def _plain_eigenvalue(runs: dict[str, Descent]) -> Finding:
    def verdict(run: Descent) -> Verdict:
        return judge(run.plain < FAR_BELOW) if run.sharpness.after.size >= ENOUGH else "inconclusive"

    return Finding(
        claim="Under Linf and Spectral descent the largest eigenvalue of the Hessian stays far below 2/η",
        source=ISLAMOV,
        expected=f"largest eigenvalue over 2/η below {FAR_BELOW}, at every measurement while S sits at the edge",
        measured={f"{name}: largest": run.plain for name, run in runs.items()},
        verdict=_each(runs, verdict)[0],
        why="The largest of all measurements after S crossed. The paper's networks are ResNet20 and VGG11 on CIFAR-10; "
        "these are small tanh networks (in the preset full a small residual network too) on Fashion-MNIST images and "
        "a transformer on a text.",
        status="from the paper, for other networks",
    )


def _order_of_events(runs: dict[str, Descent], plain: dict[str, Descent]) -> Finding:
    def verdict(run: Descent) -> Verdict:
        onset, crossing = run.oscillates(WINDOW), run.crossing
        if np.isnan(crossing):
            return "inconclusive"
        return judge(onset < crossing)

    measured: dict[str, float] = {}
    for name, run in (runs | plain).items():
        measured |= {f"{name}: oscillates from": run.oscillates(WINDOW), f"{name}: S crosses at": run.crossing}
    return Finding(
        claim="Under Linf and Spectral descent outputs oscillate before S reaches 2/η",
        source=ISLAMOV,
        expected="a smaller step for the first than for the second, in every run",
        measured=measured,
        verdict=_each(runs, verdict)[0],
        why=f"Outputs oscillate from the first {WINDOW} steps whose mean cosine between successive output changes is "
        "negative. Gradient descent is given for comparison and not judged.",
        status="from the paper; the definition of oscillation is ours",
    )


def _several_directions(runs: dict[str, Descent]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name, run in runs.items():
        count, excess = run.unstable_directions()
        known = len(count) >= ENOUGH and len(set(count)) > 1
        tau = float(kendalltau(count, excess).statistic) if known else np.nan
        typical = float(np.mean(count)) if len(count) else np.nan
        measured |= {f"{name}: S": run.sharpness.mean, f"{name}: directions": typical, f"{name}: τ": tau}
        verdicts.append(judge(tau > 0.3 and typical > 1, tau))
    return Finding(
        claim="S lies slightly above 2/η because several directions are unstable at once",
        source=ISLAMOV,
        expected="more than one eigenvalue above 2/η on average, and S the higher the more there are (Kendall τ above "
        "0.3)",
        measured=measured,
        verdict=together(verdicts),
        why="Eigenvalues of the Hessian above 2/η (of the four largest) at measurements of gradient descent after "
        "crossing; in other norms unstable directions cannot be counted.",
        status="qualitative in the paper; the limits are ours",
    )


def _quadratic_model(runs: dict[str, Descent]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name, run in runs.items():
        model, network = run.ahead
        if not run.ends_at_edge or np.isnan(model):
            continue
        measured |= {f"{name}: model": model, f"{name}: network": network}
        verdicts.append(judge(model > DIVERGED > network))
    return Finding(
        claim="From a point at the edge the quadratic Taylor model diverges where the network does not",
        source=ISLAMOV,
        expected=f"largest loss ahead over the present one: model above {DIVERGED:g}, network below",
        measured=measured,
        verdict=together(verdicts),
        why="Both take the same steps of the same method from the last point of the run, as many as the run's measure "
        "quadratic_model says. Judged are the runs whose S, from below, is at or above the threshold at that point.",
        status="qualitative in the paper; the limit is ours",
    )


def _norms_in_order(runs: dict[str, Descent]) -> Finding:
    """S_inf and S_spec are at least the largest eigenvalue, S_block at most, where S > 0."""
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name, run in runs.items():
        lower, upper, plain, slack = run.against_eigenvalue()
        if run.method == "blocks":
            certain, refuted = np.nanmax(upper / plain), np.nanmax(lower / (plain + slack))
            measured[f"{name}: largest S/λ"] = float(np.nanmax(lower / plain))
            verdicts.append("fails" if refuted > 1 else "holds" if certain <= 1 + 1e-3 else "inconclusive")
        else:
            certain, refuted = np.nanmin(lower / (plain - slack)), np.nanmin(upper / plain)
            measured[f"{name}: smallest S/λ"] = float(np.nanmin(lower / plain))
            verdicts.append("fails" if refuted < 1 else "holds" if certain >= 1 else "inconclusive")
    return Finding(
        claim="S is at least the largest eigenvalue in the Linf and Spectral norms, and at most in the block norm",
        source="reconstructed from the norms' inequalities",
        expected="S/λ at least 1, at most 1 for blocks, at every measurement, whichever end of the bracket is taken",
        measured=measured,
        verdict=together(verdicts),
        why="Certain where the lower end lies above λ (for blocks: the upper end at most λ, to 0.1%); refuted only by "
        "the other end. The figure is that of the lower end.",
        status="derived: exact for exact maxima",
    )
