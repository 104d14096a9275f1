"""What the paper did not run: other minimizers, other widths, sample sizes, the ball, and the user's own network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from scipy.stats import kendalltau

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.flatness.runs import RADII
from edgescope.studies.flatness.sample_sizes import scale
from edgescope.studies.flatness.seen import ARCHITECTURES, WEN, Descents, enough, interval, sizes_of
from edgescope.studies.seen import together

FLAT = 1.2
"""Trace over its bound up to which a network counts as flat (without bias: over sqrt(2) times the bound)."""

GENERALIZES = 0.95
LEVEL = 0.05
"""Test error at which enough samples have been seen."""

SAME = 1e-4
"""Relative change of a loss that is rounding in float32."""


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
        measured |= {f"{name}: trace over least": float(run.excess.mean()), f"{name}: test accuracy": run.accuracy}
        measured[f"{name}: test accuracy of 1-SAM"] = sam.accuracy
        flat = float(run.excess.mean()) <= FLAT * _attained(name)
        alike = (run.accuracy >= GENERALIZES) == (sam.accuracy >= GENERALIZES)
        verdicts.append(judge(alike) if flat else "inconclusive")
    return Finding(
        claim=f"{title} flattens the four networks and divides them as 1-SAM does",
        source="question of this study: the paper runs 1-SAM only",
        expected=f"where the trace comes within {FLAT:g} of the least one, the test accuracy lies on the same side of "
        f"{GENERALIZES:g} as under 1-SAM",
        measured=measured,
        verdict=together(verdicts),
        why="Means over seeds. A network that was not flattened within the run says nothing. Without bias the least "
        "trace is taken as that of the best network known, sqrt(2) times the bound. Noise and radius are ours.",
        status="ours",
    )


def _attained(name: str) -> float:
    return np.sqrt(2) if name == "no-bias" else 1.0


def _explains(seen: Mapping[str, Descents]) -> Finding:
    """Kendall's tau between trace and test error over methods and seeds of one architecture."""
    measured: dict[str, float] = {}
    for name in ARCHITECTURES:
        runs = [run for run in seen.values() if run.network == name]
        traces, errors = ([v for run in runs for v in run.last(m)] for m in ("trace", "test_error"))
        if len(traces) > 4 and len(set(errors)) > 1:
            measured[f"{name}, τ"] = float(kendalltau(traces, errors).statistic)
    pooled = [run for run in seen.values() if run.network in ARCHITECTURES]
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
        why="At the end of training. An architecture whose runs all have the same error has no τ.",
        status="ours",
    )


def _narrow(seen: Mapping[str, Descents]) -> Finding:
    wide, narrow = seen.get("bias-1SAM"), seen.get("bias-narrow-1SAM")
    measured: dict[str, float] = {}
    for name, run in (("width 500", wide), ("width 100", narrow)):
        if run is not None:
            measured |= {f"{name}: trace over least": float(run.excess.mean()), f"{name}: test accuracy": run.accuracy}
    both = wide is not None and narrow is not None
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
            measured |= {f"{run.network}: training loss": run.mean("training_loss")}
            measured |= {f"{run.network}: test mean squared error": run.mean("test_error")}
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


def own_findings(runs: Mapping[str, Record]) -> list[Finding]:
    """The general questions, on the network, data and loss that the study was given."""
    known = {
        optimizer: [r for name, r in runs.items() if name.startswith(f"own-{optimizer}-") and r.status == "finished"]
        for optimizer in ("SGD", *(f"SAM{rho:g}" for rho in RADII))
    }
    known = {optimizer: records for optimizer, records in known.items() if records}
    flatter, followed, measured = [], [], dict[str, float]()
    for optimizer, records in known.items():
        for what, key in (
            ("trace", ("hessian_trace", "")),
            ("sharpness", ("sharpness", "1")),
            ("adaptive sharpness", ("worst_case_sharpness", "")),
            ("test accuracy", ("accuracy", "test")),
        ):
            measured[f"{optimizer}: {what}"] = float(np.mean([_last(r, *key) for r in records]))
        if optimizer == "SGD" or "SGD" not in known:
            continue
        traces = _differences(known["SGD"], records, "hessian_trace", "")
        sharp = _differences(known["SGD"], records, "sharpness", "1")
        flatter.append(judge(bool((traces < 0).all() and (sharp < 0).all()), *traces, *sharp))
        low, _, high = interval(_differences(known["SGD"], records, "accuracy", "test"))
        followed.append("holds" if low > 0 else "fails" if high < 0 else "inconclusive")
    network = _network(next((r for records in known.values() for r in records), None))
    flat: Verdict = together(flatter)
    return [
        Finding(
            claim=f"SAM flattens {network}",
            source="the general question",
            expected="trace and largest eigenvalue of the Hessian below those of SGD, at every radius and seed",
            measured=measured,
            verdict=flat,
            why="At the end of equally many steps from the same starts; means over seeds.",
            status="ours",
        ),
        Finding(
            claim=f"Where SAM flattens {network}, the test error falls",
            source="the general question",
            expected="test accuracy above that of SGD with the same seed, its 95% interval over seeds above 0, at "
            "every radius",
            measured={k: v for k, v in measured.items() if k.endswith(("trace", "test accuracy"))},
            verdict=together(followed) if flat == "holds" else "inconclusive",
            why="Paired differences over seeds, by Student's t; intervals of few seeds are wide.",
            status="ours",
        ),
        _rescaled(runs.get("own-rescaled"), network),
    ]


def _network(record: Record | None) -> str:
    return "the user's network" if record is None else f"{record.config['model']} on {record.config['data']}"


def _last(record: Record, measure: str, part: str) -> float:
    try:
        return float(record.series(measure, part)[1][-1])
    except (ValueError, IndexError):
        return np.nan


def _differences(plain: list[Record], other: list[Record], measure: str, part: str) -> np.ndarray:
    """Of the runs with the same seed."""
    before = {record.config["seed"]: _last(record, measure, part) for record in plain}
    return np.array([_last(r, measure, part) - before.get(r.config["seed"], np.nan) for r in other])


def _rescaled(record: Record | None, network: str) -> Finding:
    """Dinh et al.: the first layer times a factor, the second over it."""
    measured: dict[str, float] = {}
    verdict: Verdict = "inconclusive"
    if record is not None and record.status == "finished":
        table = record.table().filter(pl.col("part").is_in(["", "1", "train"]), pl.col("value").is_not_null())
        for title, measure in (
            ("loss", "loss"),
            ("trace", "hessian_trace"),
            ("sharpness", "sharpness"),
            ("adaptive sharpness", "worst_case_sharpness"),
        ):
            values = table.filter(measure=measure).sort("step")["value"].to_numpy()
            if len(values) > 1:
                measured |= {f"{title}: first": float(values[0]), f"{title}: rescaled": float(values[-1])}
        if {"loss: first", "sharpness: first"} <= measured.keys():
            kept = abs(measured["loss: rescaled"] / measured["loss: first"] - 1) <= SAME
            changed = measured["sharpness: rescaled"] / measured["sharpness: first"] > 2
            verdict = judge(changed) if kept else "inconclusive"
    return Finding(
        claim=f"Rescaling the layers of {network} changes its sharpness, and not the function",
        source="Dinh et al. 2017 (arXiv 1703.04933)",
        expected=f"the same loss to {SAME:g}, a largest eigenvalue more than twice as large",
        measured=measured,
        verdict=verdict,
        why="The first layer is multiplied by 8, the second divided by it. Inconclusive where the loss changes: then "
        "there is no relu between these layers. Adaptive sharpness does not change, up to the search for its maximum.",
        status="from the paper",
    )
