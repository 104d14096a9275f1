"""Beside the paper's table: other minimizers, other widths, sample sizes, the ball."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import kendalltau

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.flatness.own import own_findings
from edgescope.studies.flatness.sample_sizes import scale
from edgescope.studies.flatness.seen import ARCHITECTURES, TITLES, WEN, Descents, enough, sizes_of
from edgescope.studies.seen import together

FLAT = 1.2
"""Trace over its bound up to which a network counts as flat (without bias: over sqrt(2) times the bound)."""

GENERALIZES = 0.95
LEVEL = 0.05
"""Test error at which enough samples have been seen."""


def beside_findings(runs: Mapping[str, Record], seen: Mapping[str, Descents]) -> list[Finding]:
    """Verdicts on what goes beyond the paper."""
    return [
        _other_minimizer(seen, "noise", "Label-noise SGD"),
        _other_minimizer(seen, "SAM", "Full-batch SAM"),
        _explains(seen),
        _narrow(seen),
        _ball(seen),
        _sample_sizes(runs),
        *own_findings(runs),
    ]


def _other_minimizer(seen: Mapping[str, Descents], method: str, title: str) -> Finding:
    """Whether another minimizer reaches the same traces, and divides the architectures in the same way."""
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name in ARCHITECTURES:
        run, sam = seen.get(f"{name}-{method}"), seen.get(f"{name}-1SAM")
        if run is None or sam is None:
            continue
        words = TITLES[name]
        measured |= {f"{words}: trace over least": float(run.excess.mean()), f"{words}: test accuracy": run.accuracy}
        measured[f"{words}: test accuracy of 1-SAM"] = sam.accuracy
        flat = run.fitted and float(run.excess.mean()) <= FLAT * _attained(name)
        alike = (run.accuracy >= GENERALIZES) == (sam.accuracy >= GENERALIZES)
        verdicts.append(judge(alike) if flat else "inconclusive")
    return Finding(
        claim=f"{title} flattens the four networks and divides them as 1-SAM does",
        source="question of this study: the paper runs 1-SAM only",
        expected=f"where the trace comes within {FLAT:g} of the least one, the test accuracy lies on the same side of "
        f"{GENERALIZES:g} as under 1-SAM",
        measured=measured,
        verdict=together(verdicts),
        why="Means over seeds. A network that the run has not flattened, or not fitted, says nothing. Without bias the "
        "least trace is taken as that of the best network known, sqrt(2) times the bound. Noise and radius are ours.",
        status="ours",
    )


def _attained(name: str) -> float:
    return np.sqrt(2) if name == "no-bias" else 1.0


def _explains(seen: Mapping[str, Descents]) -> Finding:
    """Kendall's tau between trace and test error over methods and seeds of one architecture."""
    measured: dict[str, float] = {}
    fitted = [run for run in seen.values() if run.fitted]
    for name in ARCHITECTURES:
        runs = [run for run in fitted if run.network == name]
        traces, errors = ([v for run in runs for v in run.last(m)] for m in ("trace", "test_error"))
        if len(traces) > 4 and len(set(errors)) > 1:
            measured[f"{TITLES[name]}, τ"] = float(kendalltau(traces, errors).statistic)
    pooled = [run for run in fitted if run.network in ARCHITECTURES]
    if pooled:
        every = [v for run in pooled for v in run.last("test_error")]
        excess = [v for run in pooled for v in run.excess]
        measured["all four, τ of trace over least"] = float(kendalltau(excess, every).statistic)
    taus = list(measured.values())
    return Finding(
        claim="Flatness explains it: within every architecture, and over all, the flatter network errs less",
        source=f"{WEN}, refuted by their title",
        expected="Kendall's τ of trace and test error over methods and seeds above 0, for each and for all together",
        measured=measured,
        verdict=judge(min(taus) > 0, *taus) if len(taus) > 1 else "inconclusive",
        why="At the end of training, of runs that have fitted their samples. An architecture whose runs all have the "
        "same error has no τ.",
        status="ours",
    )


def _narrow(seen: Mapping[str, Descents]) -> Finding:
    wide, narrow = seen.get("bias-1SAM"), seen.get("bias-narrow-1SAM")
    measured: dict[str, float] = {}
    for name, run in (("width 500", wide), ("width 100", narrow)):
        if run is not None:
            measured |= {f"{name}: trace over least": float(run.excess.mean()), f"{name}: test accuracy": run.accuracy}
    both = wide is not None and narrow is not None and wide.fitted and narrow.fitted
    flat = both and max(v for k, v in measured.items() if "trace" in k) <= FLAT
    return Finding(
        claim="That 1-SAM with bias does not generalize does not depend on the width",
        source="question of this study: the paper has width 500",
        expected=f"test accuracy below {GENERALIZES:g} at both widths, traces within {FLAT:g} of the least one",
        measured=measured,
        verdict=judge(wide.accuracy < GENERALIZES and narrow.accuracy < GENERALIZES) if flat else "inconclusive",  # type: ignore[union-attr]
        why="Means over seeds. Equally flat networks of either kind exist at both widths.",
        status="ours",
    )


def _ball(seen: Mapping[str, Descents]) -> Finding:
    plain, bias = seen.get("ball-no-bias-1SAM"), seen.get("ball-bias-1SAM")
    measured: dict[str, float] = {}
    if plain is not None and bias is not None:
        for run in (plain, bias):
            words = TITLES[run.network.removeprefix("ball-")]
            measured |= {f"{words}: training loss": run.mean("training_loss")}
            measured |= {f"{words}: test loss": run.mean("test_error")}
    return Finding(
        claim="On a smooth task, |x₁| − |x₂| in a ball, 1-SAM errs less without bias than with it",
        source=f"{WEN}, figure 7",
        expected="a smaller test mean squared error, beyond the range of the seeds",
        measured=measured,
        verdict=judge(bool(plain.last("test_error").max() < bias.last("test_error").min()))  # type: ignore[union-attr]
        if measured
        else "inconclusive",
        why="Means over seeds; d = 10, n = 100, radius 0.2. The mean squared error of f = 0 is 0.61.",
        status="from the paper, without figures",
    )


def _sample_sizes(runs: Mapping[str, Record]) -> Finding:
    needed = {dim: enough(errors, LEVEL) for dim, errors in sizes_of(runs).items()}
    measured = {f"d = {dim}: n at error {LEVEL:g}": n for dim, n in needed.items()}
    spreads = {}
    if len(needed) > 1:
        for name, size in (("d log d", scale), ("d²", lambda dim: dim**2)):
            ratios = [n / size(dim) for dim, n in needed.items()]
            spreads[name] = float(np.max(ratios) / np.min(ratios))
            measured[f"largest over smallest n / {name}"] = spreads[name]
    holds = bool(spreads) and spreads["d log d"] <= 2 and spreads["d log d"] < spreads["d²"]
    return Finding(
        claim="Without bias flattest networks generalize from some d log d samples",
        source=f"{WEN}, theorem for no bias",
        expected=f"n at which the test error falls to {LEVEL:g}: n/(d log d) within a factor 2 over d, and less spread "
        "than n/d² (what kernels need)",
        measured=measured,
        verdict=judge(holds, *needed.values()) if spreads else "inconclusive",
        why="1-SAM on networks without bias, a fixed number of updates; between measured sizes by a straight line of "
        "the mean over seeds.",
        status="the rate from the paper, its constant unknown",
    )
