"""The claims beside the edge itself: identities, quadratics, Chen et al.'s run, and RMSProp as it forgets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.geometries.descents import ISLAMOV
from edgescope.studies.seen import ENOUGH, Seen, together
from edgescope.studies.tables import steps_of

CHEN = "Chen et al. 2026 (Muon Sublates the Edge of Stability)"

IDENTITY = 1e-8
"""Relative error that a descent identity may have in float64 (claim 1)."""

EXACT = 1e-6
"""Relative error of |1 - ηS|^t on a quadratic, after 300 steps."""

DIVERGES = 100.0
"""How many times the first norm a diverging iterate must reach in 300 steps (1.04^300 is 130,000)."""

SETTLED = 0.10
"""How far the time-mean of s may lie from 2/η (claim 10)."""

FIRST_RISE, RISE_SLACK = 1350, 0.20
"""The step of the first loss rise of Chen et al.'s convolutional network (claim 11)."""

FAILS_BY = 1.5
"""A mean of effective sharpness over threshold beyond this, or below its inverse, is no account of stability."""


def beside_findings(runs: dict[str, Record]) -> list[Finding]:
    """A verdict on every claim whose runs are there."""
    descents = {name: record for name, record in runs.items() if not name.startswith(("RMSProp", "quadratics"))}
    chen = {name: record for name, record in runs.items() if name.startswith("Chen")}
    forgetting = {name: record for name, record in runs.items() if name.startswith("RMSProp")}
    found = [identities(descents), rises(descents)]
    if "quadratics" in runs:
        found.append(quadratics(runs["quadratics"]))
    if chen:
        found += [chen_settles(chen), chen_first_rise(chen)]
    if forgetting:
        found.append(rmsprop_forgets(forgetting))
    return found


def identities(runs: dict[str, Record]) -> Finding:
    """-lr (1 - lr D/2) ||g||_*^2, or -lr (||g||_* - lr D/2), against the loss change of every step in float64."""
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name, record in runs.items():
        table = _plain_steps(name, record)
        if not table.is_empty():
            table = table.filter(pl.col("note") == "by differences")
        if record.config.get("dtype") != "float64" or table.is_empty():
            continue
        lr, dual, smooth = float(record.config["lr"]), table["dual_norm"].to_numpy(), table["smoothness"].to_numpy()
        if "normalized=true" in record.config["optimizer"]:
            first, second = -lr * dual, lr**2 * smooth / 2
        else:
            first, second = -lr * dual**2, (lr * dual) ** 2 * smooth / 2
        miss = np.abs(first + second - table["actual"].to_numpy())
        worst = float(np.max(np.maximum(miss - table["rounding"].to_numpy(), 0.0) / np.abs(first)))
        measured[name] = worst
        verdicts.append(judge(worst <= IDENTITY, worst))
    return Finding(
        claim="A step of descent changes the loss by -η(1 - ηD/2)|g|*², a normalized one by -η(|g|* - ηD/2)",
        source=ISLAMOV,
        expected=f"largest miss over η|g|*² (normalized: η|g|*) of any step at most {IDENTITY:g}, in float64",
        measured=measured,
        verdict=together(verdicts),
        why="Every step whose D is resolved by differences of losses. D, the dual norm and the loss change are "
        "measured "
        "each for itself, so a step that is not the steepest one would break the identity; what the rounding of the "
        "two losses explains is not counted.",
        status="derived and checked",
    )


def rises(runs: dict[str, Record]) -> Finding:
    """The sign of every loss change against D over threshold."""
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name, record in runs.items():
        table = _plain_steps(name, record)
        if table.is_empty():
            continue
        clear = table.filter(pl.col("actual").abs() > pl.col("rounding"))
        wrong = clear.filter((pl.col("actual") > 0) != (pl.col("ratio") > 1))
        rose = len(clear.filter(pl.col("actual") > 0))
        for key, count in (("steps", len(clear)), ("rises", rose), ("of the wrong sign", len(wrong))):
            measured[key] = measured.get(key, 0) + count
        verdicts.append("inconclusive" if clear.is_empty() else judge(wrong.is_empty()))
    return Finding(
        claim="The loss falls in a step exactly when D is at most the threshold",
        source=ISLAMOV,
        expected="no step whose loss change has the wrong sign",
        measured=measured,
        verdict=together(verdicts),
        why="Counts of steps over all runs; those whose change is lost in the rounding of the losses are left out. The "
        "threshold of normalized methods is 2|g|*/η with the gradient of that step.",
        status="derived: exact",
    )


def quadratics(record: Record) -> Finding:
    """Growth as predicted just above 2/S, a loss that falls at every step just below."""
    table = record.table().filter(pl.col("measure") == "quadratic").drop_nulls("value")
    runs = sorted({part.partition("/")[2] for part in table["part"]})
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for run in runs:
        above, line, below = (record.series("quadratic", f"{kind}/{run}")[1] for kind in ("above", "line", "below"))
        miss, end = float(np.max(np.abs(above - line) / line)), float(below[-1] / below[0])
        falls = bool((np.diff(below) <= 0).all()) and end < 1e-2
        geometry = run.partition("/")[0]
        for key, value in ((f"{geometry}: miss", miss), (f"{geometry}: loss end / start", end)):
            measured[key] = max(value, measured.get(key, 0.0))
        verdicts.append(judge(miss <= EXACT and above[-1] > DIVERGES and falls, miss, end))
    return Finding(
        claim="On a quadratic, descent converges for η below 2/S and diverges from the maximiser's line above it",
        source=ISLAMOV,
        expected=f"2% above 2/S the norm is |1 - ηS|^t times the first, to {EXACT:g}; 2% below the loss falls at every "
        "step, to less than 1%",
        measured=measured,
        verdict=together(verdicts),
        why="Random positive definite forms of 26 variables in two layers, 300 steps; the worst of all draws. Below, η "
        "is 2% under 2 over the certified upper end of S, so that it is below 2/S whatever the search missed; above, "
        "it is 2% over 2 over d'Hd at the maximiser found.",
        status="from the paper: exact",
    )


def chen_settles(runs: dict[str, Record]) -> Finding:
    """s = D/||G||_* against 2/lr."""
    seen = {name: Seen.of(name, record, "directional_smoothness", "ratio") for name, record in runs.items()}
    verdicts = [
        judge(abs(run.mean - 1) <= SETTLED) if run.after.size >= 10 * ENOUGH else "inconclusive"
        for run in seen.values()
    ]
    return Finding(
        claim="Full-batch normalized Spectral descent at η = 0.007: s approaches 2/η and oscillates around it",
        source=CHEN,
        expected=f"time-mean of s over 2/η from its first crossing on, within {SETTLED:.0%} of 1",
        measured={f"{name}: mean": run.mean for name, run in seen.items()}
        | {f"{name}: crosses at": _first(run) for name, run in seen.items()},
        verdict=together(verdicts),
        why=f"{_differences(runs)} s is recorded at every step.",
        status="from the paper, for other data",
    )


def chen_first_rise(runs: dict[str, Record]) -> Finding:
    """The first rise of the training loss, of the convolutional network."""
    low, high = ((1 - RISE_SLACK) * FIRST_RISE, (1 + RISE_SLACK) * FIRST_RISE)
    measured: dict[str, float] = {}
    verdict: Verdict = "inconclusive"
    for name, record in runs.items():
        steps, loss = record.series("training_loss")
        rising = np.flatnonzero(np.diff(loss) > 0)
        first = float(steps[rising[0] + 1]) if rising.size else np.nan
        measured[f"{name}: first rise"] = first
        theirs = str(record.config["data"]).startswith("cifar10")
        if theirs and name.endswith("CNN") and (rising.size or steps[-1] > high):
            verdict = judge(low <= first <= high)
    return Finding(
        claim="There the loss of the convolutional network first rises at step 1350",
        source=CHEN,
        expected=f"a step from {low:.0f} to {high:.0f}",
        measured=measured,
        verdict=verdict,
        why=f"{_differences(runs)} A step count belongs to its data, so that on any other than CIFAR-10 it is given "
        "and not judged.",
        status="from the paper, for CIFAR-10",
    )


def rmsprop_forgets(runs: dict[str, Record]) -> Finding:
    """Effective sharpness over 2/lr in the metric of RMSProp, second half of the run, for shorter and shorter "
    "memory."""
    means = {}
    for name, record in runs.items():
        _, ratio = record.series("ratio")
        means[name] = float(np.mean(ratio[len(ratio) // 2 :])) if len(ratio) >= ENOUGH else np.nan
    longest, shortest = (pick(means, key=lambda name: float(name.rpartition("-")[2])) for pick in (max, min))
    at_edge = abs(means[longest] - 1) <= 0.2
    off = means[shortest] > FAILS_BY or means[shortest] < 1 / FAILS_BY
    verdict = "inconclusive" if not at_edge and not np.isnan(means[longest]) else judge(off, *means.values())
    return Finding(
        claim="The account of RMSProp's stability by its frozen preconditioner fails as β₂ goes to 0",
        source=ISLAMOV,
        expected=f"effective sharpness over 2/η near 1 (to 20%) for the longest memory, beyond a factor {FAILS_BY:g} "
        f"for β₂ = 0",
        measured=means,
        verdict=verdict,
        why="Means over the second half of each run, all at the learning rate of sign descent, which RMSProp is where "
        "β₂ = "
        "0; sign descent itself is held against its own norm above. Without a long memory at its edge nothing is said.",
        status="qualitative in the paper; the limits are ours",
    )


def _plain_steps(name: str, record: Record) -> pl.DataFrame:
    table = steps_of({name: record})
    return table.drop_nulls(["ratio", "actual"]) if "ratio" in table.columns else pl.DataFrame()


def _first(run: Seen) -> float:
    return np.nan if run.arrival is None else float(run.steps[run.arrival])


def _differences(runs: dict[str, Record]) -> str:
    """What was run instead of CIFAR-10 and TinyShakespeare."""
    told = [
        f"{name.partition('-')[2]} {record.config['model']} on {record.config['data']}" for name, record in runs.items()
    ]
    dtypes: Sequence[str] = sorted({record.config["dtype"] for record in runs.values()})
    return f"Instead of CIFAR-10 and TinyShakespeare: {'; '.join(told)} ({', '.join(dtypes)}, exact polar factors)."
