"""The claims about the edge of stability, each judged from the records of the runs."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.stats import kendalltau

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.seen import ENOUGH, Seen, together
from edgescope.studies.tables import steps_of

COHEN_2021 = "Cohen et al. 2021 (arXiv 2103.00065)"
COHEN_2022 = "Cohen et al. 2022 (arXiv 2207.14484)"

SETTLED = 0.10
"""How far the time-mean of sharpness over threshold may lie from 1 (Matveev et al. 2025, claim 2: 10%)."""


def edge_findings(runs: dict[str, Record]) -> list[Finding]:
    """A verdict on every claim of the study."""
    seen = {name: Seen.of(name, record) for name, record in runs.items() if name != "flow"}
    descent = {name: run for name, run in seen.items() if "GD" in name}
    others = {name: run for name, run in seen.items() if "GD" not in name}
    found = [
        _sharpening(descent),
        _settling(
            descent,
            "Under gradient descent the sharpness settles at 2/η, for every learning rate and both networks",
            COHEN_2021,
        ),
        *(
            _settling({name: run}, f"Under {name} the effective sharpness settles at {formula}", source)
            for name, formula, source in (
                ("Polyak", "(2 + 2β)/η", COHEN_2021),
                ("Nesterov", "(2 + 2β)/((1 + 2β) η)", COHEN_2021),
                ("RMSProp", "2/η, in the metric of its preconditioner", COHEN_2022),
                ("Adam", "38/η, in the metric of its preconditioner", COHEN_2022),
            )
            if (run := others.get(name)) is not None
        ),
        _non_monotone(descent),
        _predicted_changes(descent),
    ]
    if "flow" in runs:
        found.insert(1, _flow(runs["flow"], {n: r for n, r in descent.items() if not n.startswith("CNN")}))
    return found


def _sharpening(runs: dict[str, Seen]) -> Finding:
    measured: dict[str, float] = {}
    verdicts = []
    for name, run in runs.items():
        _, sharpness = run.sharpness
        end = run.arrival
        before = sharpness[: end + 1] if end is not None else sharpness
        low = int(np.argmin(before))
        rise = float(before[-1] / before[low])
        tau = (
            float(kendalltau(np.arange(len(before) - low), before[low:]).statistic) if len(before) - low > 3 else np.nan
        )
        measured |= {f"{name}: rise ×": rise, f"{name}: τ": tau}
        verdicts.append(judge(rise > 1.2 and tau > 0.5, tau))
    return Finding(
        claim="Before the threshold the sharpness rises steadily (progressive sharpening)",
        source=COHEN_2021,
        expected="from the early minimum to arrival at 2/η: rise by more than 20%, Kendall τ with the step above 0.5",
        measured=measured,
        verdict=together(verdicts),
        why="Each run is judged between its lowest sharpness before arrival and arrival; one that begins too "
        "near its threshold to have such a span cannot tell.",
        status="qualitative in the paper; the limits are ours",
    )


def _settling(runs: dict[str, Seen], claim: str, source: str) -> Finding:
    measured: dict[str, float] = {}
    verdicts = []
    for name, run in runs.items():
        mean = run.mean
        prefix = f"{name}: " if len(runs) > 1 else ""
        measured[f"{prefix}mean"] = mean
        if len(runs) == 1 and run.after.size:
            measured |= {"lowest": float(run.after.min()), "highest": float(run.after.max())}
        verdicts.append("inconclusive" if run.after.size < ENOUGH else "holds" if abs(mean - 1) <= SETTLED else "fails")
    reached = sum(v != "inconclusive" for v in verdicts)
    return Finding(
        claim=claim,
        source=source,
        expected=f"sharpness / threshold, time-mean after first arrival, within {SETTLED:.0%} of 1",
        measured=measured,
        verdict=together(verdicts),
        why=f"{reached} of {len(verdicts)} runs arrived and stayed long enough to tell ({ENOUGH} measurements).",
        status="from the paper; for gradient descent its plateau is 0.98 to 1.10",
    )


def _flow(flow: Record, descent: dict[str, Seen]) -> Finding:
    _, sharpness = flow.series("sharpness", "1")
    highest = float(sharpness.max())
    measured = {"flow: largest": highest}
    verdicts = []
    for name, run in descent.items():
        threshold = 2.0 / float(run.record.config["lr"])
        settled = float(run.sharpness[1][run.arrival :].mean()) if run.arrival is not None else np.nan
        measured |= {f"{name}: 2/η": threshold, f"{name}: mean at the edge": settled}
        verdicts.append(judge(highest > 1.1 * threshold, settled))
    return Finding(
        claim="Gradient flow, which has no threshold, sharpens past the values at which gradient descent stays",
        source=COHEN_2021,
        expected="the flow's sharpness exceeds every 2/η by more than 10%",
        measured=measured,
        verdict=together(verdicts),
        why="The flow starts from the same parameters; an adaptive Runge-Kutta method integrates it, its step "
        "bounded by the sharpness.",
        status="from the paper",
    )


def _non_monotone(runs: dict[str, Seen]) -> Finding:
    measured: dict[str, float] = {}
    verdicts = []
    for name, run in runs.items():
        steps, loss = run.record.series("training_loss")
        if run.arrival is None:
            verdicts.append("inconclusive")
            continue
        place = int(np.searchsorted(steps, run.steps[run.arrival]))
        rising = np.diff(loss) > 0
        span = max(20, (len(loss) - place) // 10)
        later = place + (len(rising) - place) // 2
        before, after = float(rising[:place].mean()), float(rising[later:].mean())
        fall = float(np.median(loss[-span:]) / np.median(loss[place : place + span]))
        measured |= {
            f"{name}: rising before": before,
            f"{name}: rising after": after,
            f"{name}: loss end / arrival": fall,
        }
        enough = len(loss) - place >= 10 * ENOUGH
        verdicts.append("inconclusive" if not enough else "holds" if after > 0.1 and fall < 0.9 else "fails")
    return Finding(
        claim="At the edge the loss rises in single steps and yet falls over long spans",
        source=COHEN_2021,
        expected="more than 10% of the later steps raise the loss, and the last tenth lies 10% below the first",
        measured=measured,
        verdict=together(verdicts),
        why="Shares of steps that raise the loss: before arrival at the threshold, and in the second half of "
        "the steps after it (oscillations grow from nothing, which takes a while); and the median loss of the last "
        "tenth of the steps after arrival over that of the first tenth. The loss is recorded at every step.",
        status="qualitative in the paper; the limits are ours",
    )


def _predicted_changes(runs: dict[str, Seen]) -> Finding:
    table = changes(runs)
    if table.is_empty():
        verdict: Verdict = "inconclusive"
        measured: dict[str, float] = {}
    else:
        predicted, actual = table["predicted"].to_numpy(), table["measured"].to_numpy()
        big = np.abs(actual) > table["rounding"].to_numpy()
        error = np.abs(predicted - actual)[big] / np.abs(actual)[big]
        over = table["smoothness"].to_numpy() * table["lr"].to_numpy() / 2 > 1
        measured = {
            "steps compared": float(big.sum()),
            "relative error, median": float(np.median(error)),
            "relative error, 90th percentile": float(np.quantile(error, 0.9)),
            "share with the right sign": float(np.mean((actual > 0)[big] == over[big])),
        }
        right = measured["share with the right sign"] >= 0.99
        verdict = "holds" if right and measured["relative error, 90th percentile"] < 0.02 else "fails"
    return Finding(
        claim="The loss change of a step is -η (1 - ηD/2) |g|², so that it rises exactly when D > 2/η",
        source="Mishkin et al. 2024 (arXiv 2403.04081); Islamov et al. 2026 (arXiv 2603.05002)",
        expected="90% of steps within 2%, and the sign right in 99%",
        measured=measured,
        verdict=verdict,
        why="The directional smoothness D comes from Hessian products along the step alone, not from the losses it "
        "predicts; steps whose change is lost in rounding are left out.",
        status="derived: exact for exact D",
    )


def changes(runs: dict[str, Seen]) -> pl.DataFrame:
    """Loss changes of single steps, predicted and measured, one row a step: run, step, lr, smoothness, rounding."""
    table = steps_of({name: run.record for name, run in runs.items()})
    if "predicted" not in table.columns:
        return pl.DataFrame()
    rates = {name: float(run.record.config["lr"]) for name, run in runs.items()}
    lr = pl.col("run").replace_strict(rates, return_dtype=pl.Float64)
    return table.select(
        "run", "step", "predicted", "smoothness", "rounding", measured=pl.col("actual"), lr=lr
    ).drop_nulls()
