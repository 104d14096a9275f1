"""The claims about flatness and generalization, each judged from the records of the runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.flatness.claims_beside import beside_findings
from edgescope.studies.flatness.constructions import NETWORKS as CONSTRUCTED
from edgescope.studies.flatness.seen import ARCHITECTURES, METHODS, TITLES, WEN, Descents, descents_of, interval
from edgescope.studies.seen import together

PERFECT, ALMOST, GAP = 0.99, 0.95, 0.2
"""Test accuracies called perfect and almost perfect, and the final gap called failure."""

DEGENERATES = {"bias": 4_000, "logistic": 2_000}
"""Epochs after which the paper's test accuracies begin to fall; to an order of magnitude either way."""

COLUMNS, NEAR = 5.0, 0.10
"""How far the first two columns stand out (claim 2); how near a trace comes to its bound (claim 5)."""

SCENARIO = {"no-bias": "I", "batchnorm": "I", "bias": "II", "layernorm": "III"}


def flatness_findings(runs: dict[str, Record]) -> list[Finding]:
    """A verdict on every claim of the study."""
    seen = descents_of(runs)
    return [
        _scenarios(seen),
        _no_bias(seen),
        _batch_norm(seen),
        _bias(seen),
        *_bias_variants(seen),
        _degenerates(seen, "bias", "With bias"),
        _degenerates(seen, "logistic", "With bias under the logistic loss"),
        _layer_norm(seen),
        _bounds(seen),
        _lemma(runs),
        _closed_forms(runs),
        *beside_findings(runs, seen),
    ]


def _scenarios(seen: Mapping[str, Descents]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name in ARCHITECTURES:
        run = seen.get(f"{name}-1SAM")
        if run is None:
            verdicts.append("inconclusive")
            continue
        title = f"{SCENARIO[name]}, {TITLES[name]}"
        measured |= {f"{title}: trace": run.mean("trace"), f"{title}: ± trace": _half(run.last("trace"))}
        measured |= {f"{title}: least trace": run.mean("least_trace")}
        measured |= {f"{title}: training error": run.mean("training_error"), f"{title}: test accuracy": run.accuracy}
        measured |= {f"{title}: ± accuracy": _half(run.last("test_error"))}
        errors = run.last("test_error")
        verdicts.append(_below(1 - errors, 1 - GAP) if name == "bias" else _below(errors, 1 - ALMOST))
    return Finding(
        claim="Under 1-SAM networks without bias, with batch norm or layer norm generalize, those with bias do not",
        source=f"{WEN}, table of three scenarios",
        expected=f"test accuracy at least {ALMOST:g}, with bias at most {1 - GAP:g}",
        measured=measured,
        verdict=together(verdicts),
        why="Means over seeds at the end of training, with half the width of their 95% intervals by Student's t. In "
        "scenario I all flattest networks generalize, in II and III some do not; in III 1-SAM finds one that does all "
        "the same. Inconclusive where the interval reaches over the limit.",
        status="from the paper",
    )


def _below(values: np.ndarray, limit: float) -> Verdict:
    """Whether the mean over seeds is at most ``limit``; open where its interval reaches to the other side."""
    low, mean, high = interval(values)
    limit += 1e-12  # 1 - 0.95 is a little less than 0.05
    return "inconclusive" if low <= limit < high else judge(mean <= limit, mean)


def _half(values: np.ndarray) -> float:
    low, _, high = interval(values)
    return (high - low) / 2


def _no_bias(seen: Mapping[str, Descents]) -> Finding:
    found = {name: seen[name].accuracy for name in ("no-bias-1SAM", "no-bias-GD") if name in seen}
    return Finding(
        claim="Without bias 1-SAM and descent with weight decay both generalize perfectly",
        source=f"{WEN}, figure 1",
        expected=f"test accuracy at least {PERFECT:g}, both",
        measured={f"{METHODS[name.rsplit('-', 1)[1]]}, test accuracy": value for name, value in found.items()},
        verdict=judge(min(found.values(), default=0) >= PERFECT) if len(found) == 2 else "inconclusive",
        why="Means over seeds, on 2,000 fresh samples.",
        status="from the paper",
    )


def _batch_norm(seen: Mapping[str, Descents]) -> Finding:
    run = seen.get("batchnorm-1SAM")
    measured: dict[str, float] = {}
    if run is not None:
        measured = {"test accuracy": run.accuracy, "column ratio, mean": run.mean("column_ratio")}
        measured["column ratio, least"] = float(run.last("column_ratio").min())
        top = np.abs(run.record.array(run.record.last_step or 0, "neurons", "0"))[:4]
        measured["four largest neurons, ratio, least"] = float((top[:, :2].min(1) / top[:, 2:].max(1)).min())
    holds = bool(measured) and measured["test accuracy"] >= PERFECT and measured["column ratio, least"] >= COLUMNS
    return Finding(
        claim="With batch norm 1-SAM generalizes perfectly, and the first two columns of the first layer dominate",
        source=f"{WEN}, figures 2 and 3",
        expected=f"test accuracy at least {PERFECT:g}; the smaller of the two over the largest other {COLUMNS:g}",
        measured=measured,
        verdict=judge(holds) if measured else "inconclusive",
        why="Over seeds. The paper's network is 500 neurons wide and trained for 2e5 epochs, the first half at the "
        "radius 0.1, the second at 1; here the radius is 0.1, then 0.3, since at 1 the network collapses to f = 0 "
        "this early.",
        status="from the paper; not its digits",
    )


def _bias(seen: Mapping[str, Descents]) -> Finding:
    sam, descent = seen.get("bias-1SAM"), seen.get("bias-GD")
    measured: dict[str, float] = {}
    verdict: Verdict = "inconclusive"
    if sam is not None and descent is not None:
        measured = _pair(sam, descent)
        verdict = judge(_flatter_and_fails(sam, descent))
    return Finding(
        claim="With bias 1-SAM finds flatter networks than descent with weight decay, yet does not generalize",
        source=f"{WEN}, figure 4",
        expected=f"a smaller trace, and a test accuracy lower by at least {GAP:g} than that of the descent",
        measured=measured,
        verdict=verdict,
        why="Means over seeds at the end of training.",
        status="from the paper",
    )


def _bias_variants(seen: Mapping[str, Descents]) -> list[Finding]:
    titles = {"softplus": "with softplus", "logistic": "under the logistic loss", "three-layers": "with three layers"}
    findings = []
    for name, words in titles.items():
        pair = [seen[run] for run in (f"{name}-1SAM", f"{name}-SGD") if run in seen]
        both = len(pair) == 2
        findings.append(
            Finding(
                claim=f"The same {words}: with bias 1-SAM is flatter than SGD with weight decay, and fails",
                source=f"{WEN}, appendix",
                expected=f"a smaller trace, and a test accuracy lower by at least {GAP:g}",
                measured=_pair(*pair) if both else {},
                verdict=judge(_flatter_and_fails(*pair)) if both and pair[0].fitted else "inconclusive",
                why="Means over seeds at the end of training, with the paper's rates and radii. The trace is that of "
                "the Gauss-Newton matrix. Inconclusive where 1-SAM has not fitted the training samples.",
                status="from the paper",
            )
        )
    return findings


def _pair(sam: Descents, descent: Descents) -> dict[str, float]:
    return {
        f"{METHODS[run.method]}: {what}": value
        for run in (sam, descent)
        for what, value in (
            ("trace", run.mean("trace")),
            ("least trace", run.mean("least_trace")),
            ("training error", run.mean("training_error")),
            ("test accuracy", run.accuracy),
        )
        if not np.isnan(value)
    }


def _flatter_and_fails(sam: Descents, descent: Descents) -> bool:
    return sam.mean("trace") < descent.mean("trace") and descent.accuracy - sam.accuracy >= GAP


def _degenerates(seen: Mapping[str, Descents], name: str, words: str) -> Finding:
    measured: dict[str, float] = {}
    verdict: Verdict = "inconclusive"
    soonest, latest = DEGENERATES[name] // 10, DEGENERATES[name] * 10
    run = seen.get(f"{name}-1SAM")
    if run is not None:
        curve = run.curve("test_error")
        best = int(np.argmin(curve["middle"].to_numpy()))
        peak, last = 1 - float(curve["middle"][best]), 1 - float(curve["middle"][-1])
        measured = {"best test accuracy": peak, "at epoch": float(curve["epoch"][best]), "at the end": last}
        if peak < PERFECT:
            verdict = "fails"
        elif last <= peak - GAP:
            verdict = judge(soonest <= measured["at epoch"] <= latest)
        elif curve["epoch"][-1] > soonest:
            verdict = "fails"
    return Finding(
        claim=f"{words} 1-SAM first generalizes; its test accuracy degenerates after some {DEGENERATES[name]:,} epochs",
        source=f"{WEN}, figure 4" if name == "bias" else f"{WEN}, appendix",
        expected=f"best accuracy at least {PERFECT:g}, lower by {GAP:g} at the end, the fall beginning between "
        f"{soonest:,} and {latest:,} epochs",
        measured=measured,
        verdict=verdict,
        why="Mean over seeds, measured at epochs evenly spaced in their logarithm, so that no early peak is missed.",
        status="from the paper, to the order of magnitude",
    )


def _layer_norm(seen: Mapping[str, Descents]) -> Finding:
    run = seen.get("layernorm-1SAM")
    return Finding(
        claim="With layer norm 1-SAM generalizes almost perfectly, although not all flattest networks do",
        source=f"{WEN}, figure 6a",
        expected=f"test accuracy at least {ALMOST:g}",
        measured={}
        if run is None
        else {
            "test accuracy": run.accuracy,
            "± accuracy": _half(run.last("test_error")),
            "trace": run.mean("trace"),
        },
        verdict="inconclusive" if run is None else _below(run.last("test_error"), 1 - ALMOST),
        why="Mean over seeds, with half the width of its 95% interval by Student's t; inconclusive where that reaches "
        "over the limit. The first layer is divided by 100 at the start, as in the paper.",
        status="from the paper",
    )


def _bounds(seen: Mapping[str, Descents]) -> Finding:
    names = {**TITLES, "logistic": "with bias, logistic loss", "three-layers": "with bias, three layers"}
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name, words in names.items():
        run = seen.get(f"{name}-1SAM")
        if run is None:
            continue
        excess = float(run.excess.mean())
        measured[f"{words}: trace over least"] = excess
        if name != "no-bias":
            open_yet = not run.fitted or (excess > 1 + NEAR and run.falling)
            verdicts.append("inconclusive" if open_yet else judge(abs(excess - 1) <= NEAR, excess))
    return Finding(
        claim="1-SAM approximately reaches the least trace where it is known",
        source=WEN,
        expected=f"trace over least trace within {NEAR:.0%} of 1, wherever there is a bias or a norm",
        measured=measured,
        verdict=together(verdicts),
        why="Means over seeds. Without bias the figure is a lower bound that no network on these data need attain: not "
        "judged. 1-SAM keeps a small residual, so that its trace may dip under the bound of exact interpolators. A "
        "trace that still falls by more than 5% while the epochs double says nothing yet, nor does a network that has "
        "not fitted its samples.",
        status="from the paper",
    )


def _constructed(runs: Mapping[str, Record]) -> dict[str, dict[str, float]]:
    """The figures of every network in closed form."""
    if "constructions" not in runs:
        return {}
    rows = runs["constructions"].table().select("part", "value").iter_rows()
    found: dict[str, dict[str, float]] = {}
    for part, value in rows:
        network, _, figure = part.partition(": ")
        found.setdefault(network, {})[figure] = value
    return found


def _lemma(runs: Mapping[str, Record]) -> Finding:
    found = {network: figures["lemma"] for network, figures in _constructed(runs).items()}
    return Finding(
        claim="At interpolation the trace of the Hessian is 2/n times the sum of squared gradient norms",
        source=f"{WEN}, trace lemma",
        expected="relative difference from the trace of the dense Hessian at most 1e-6",
        measured=found,
        verdict=judge(max(found.values()) <= 1e-6, *found.values()) if found else "inconclusive",
        why="On networks that interpolate exactly, in 6 dimensions, where the whole Hessian is formed.",
        status="from the paper",
    )


def _closed_forms(runs: Mapping[str, Record]) -> Finding:
    found = _constructed(runs)
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for architecture, kind in CONSTRUCTED:
        figures = found.get(f"{architecture}, {kind}")
        if figures is None:
            continue
        name = f"{architecture} {kind}"
        # Without bias the best network known, and the least on the whole hypercube, has sqrt(2) times the bound.
        least = figures["least"] * (np.sqrt(2) if architecture == "no-bias" else 1)
        measured |= {f"{name}: trace": figures["trace"], f"{name}: least trace": least}
        measured |= {f"{name}: residual": figures["residual"], f"{name}: population error": figures["error"]}
        knows = figures["error"] == 0 if kind == "generalizing" else figures["error"] > 0.99
        exact = abs(figures["trace"] / least - 1) <= 1e-3 and figures["residual"] <= 1e-3
        verdicts.append(judge(bool(exact and knows), *figures.values()))
    return Finding(
        claim="Flattest networks that memorize and flattest networks that generalize exist in closed form",
        source=f"{WEN}, theorems and constructions",
        expected="trace equal to the least one to 1e-3, interpolation; error 0 (generalizing), all (memorizing)",
        measured=measured,
        verdict=together(verdicts),
        why="xor in 30 dimensions, 100 samples. Corrected: the generalizing network with bias has r = (d+1)^(1/4), "
        "the least trace of batch norm is 8, not 4, and without bias it is 4 sqrt(2d) on the whole hypercube.",
        status="derived and checked",
    )
