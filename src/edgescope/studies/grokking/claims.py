"""The claims about grokking and the sharpness dimension, each judged from the records of the runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.seen import together

TUCI = "Tuci et al. 2026 (arXiv 2604.19740)"

MEASURES: dict[str, tuple[str, str]] = {
    "SD": ("sharpness_dimension", "slq"),
    "RDS sharpness": ("rds_sharpness", ""),
    "largest eigenvalue": ("sharpness", "1"),
    "trace": ("hessian_trace", ""),
    "lifetime sum": ("persistent_homology", "lifetime_sum/euclidean"),
    "norm": ("norms", "l2"),
}

LEARNED, GROKKED = 0.5, 0.6
"""Training accuracy from which a run has learned, and test accuracy at which it has grokked; between the test accuracy
has to rise from below a tenth."""

NEAR = 2
"""Checkpoints around the jump within which a change counts as one with it (ours)."""


@dataclass(frozen=True)
class Grokking:
    """A run with its accuracies, its measures at the same steps, and its jump: where the test accuracy rises most."""

    name: str
    steps: np.ndarray
    train: np.ndarray
    test: np.ndarray
    measures: dict[str, np.ndarray]

    @classmethod
    def of(cls, name: str, record: Record) -> Grokking:
        steps, train = record.series("accuracy", "train")
        _, test = record.series("accuracy", "test")
        measures = {}
        for label, (measure, part) in MEASURES.items():
            at, values = record.series(measure, part) if _has(record, measure) else (np.array([]), np.array([]))
            known = dict(zip(at.tolist(), values.tolist(), strict=True))
            measures[label] = np.array([known.get(step, np.nan) for step in steps.tolist()])
        return cls(name, steps, train, test, measures)

    @property
    def grokked(self) -> bool:
        """Whether it had learned the training data while the test accuracy was below a tenth, and later understood."""
        late = (self.train >= LEARNED) & (self.test < 0.1)
        return bool(late.any() and self.test[np.flatnonzero(late)[0] :].max() >= GROKKED)

    @property
    def jump(self) -> int:
        """The index of the checkpoint before the steepest rise, over three checkpoints, of the test accuracy."""
        return int(np.argmax(self.test[3:] - self.test[:-3])) + 1

    def correlation(self, label: str) -> float:
        """Kendall's tau with the accuracy gap over the checkpoints, from when the run had begun to learn."""
        values, gap = self.measures[label], np.abs(self.train - self.test)
        fit = np.isfinite(values) & (np.arange(len(values)) >= self.began)
        return float(kendalltau(values[fit], gap[fit]).statistic) if fit.sum() > 5 else np.nan

    @property
    def began(self) -> int:
        above = np.flatnonzero(self.train >= LEARNED)
        return int(above[0]) if above.size else 0

    def change(self, label: str) -> float:
        """The largest change between checkpoints within the jump, over the median one beyond the first tenth."""
        values = self.measures[label]
        steps = np.abs(np.diff(values))
        near = steps[max(0, self.jump - NEAR) : self.jump + NEAR + 1]
        usual = np.nanmedian(steps[len(steps) // 10 :])
        return float(np.nanmax(near) / usual) if usual > 0 else np.nan


def grokking_findings(runs: dict[str, Record]) -> list[Finding]:
    """A verdict on every claim of the study."""
    seen = {name: Grokking.of(name, record) for name, record in runs.items()}
    grokked = {name: run for name, run in seen.items() if run.grokked}
    return [
        _delay(seen),
        _correlations(grokked),
        _below(grokked),
        _shape(grokked),
        _others_fall(grokked),
        _clearest(grokked),
        _before(grokked),
    ]


def _delay(seen: Mapping[str, Grokking]) -> Finding:
    measured = {}
    for name, run in seen.items():
        measured[f"{name}: training accuracy reached {LEARNED:.0%} at step"] = float(run.steps[run.began])
        measured[f"{name}: final test accuracy"] = float(run.test[-1])
        if run.grokked:
            measured[f"{name}: steepest rise at step"] = float(run.steps[run.jump])
    return Finding(
        claim="The networks memorise first and generalise much later",
        source="Power et al. 2022 (arXiv 2201.02177)",
        expected=f"test accuracy below 10% when half of the training data are learned, above {GROKKED:.0%} later",
        measured=measured,
        verdict="holds" if seen and all(r.grokked for r in seen.values()) else "fails" if seen else "inconclusive",
        why="The rates and decays were chosen so that grokking occurs within the time, on accuracies alone.",
        status="the limits are ours",
    )


def _correlations(runs: Mapping[str, Grokking]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    for name, run in runs.items():
        found = {label: run.correlation(label) for label in MEASURES}
        measured |= {f"{name}: {label}": value for label, value in found.items()}
        rest = [found[label] for label in ("lifetime sum", "trace", "largest eigenvalue") if not np.isnan(found[label])]
        lead = found["SD"] - max(rest, default=np.nan)
        verdicts.append(judge(lead > -0.1, lead))
    return Finding(
        claim="Over training the dimension follows the gap as well as lifetime sums, trace and sharpness, or better",
        source=f"{TUCI}, claim 6",
        expected="τ of the dimension with the accuracy gap over checkpoints at most 0.1 below the best of the others",
        measured=measured,
        verdict=together(verdicts),
        why="Kendall's τ over the checkpoints from the one at which half of the training data are learned.",
    )


def _below(runs: Mapping[str, Grokking]) -> Finding:
    measured = {
        f"{n}: SD - RDS sharpness": run.correlation("SD") - run.correlation("RDS sharpness") for n, run in runs.items()
    }
    worse = [value > 0 for value in measured.values() if not np.isnan(value)]
    verdict: Verdict = "inconclusive"
    if len(worse) > 1:
        verdict = "holds" if sum(worse) >= len(worse) - 1 else "fails"
    return Finding(
        claim="The RDS sharpness of order 1 follows the gap worse than the dimension, in all but one configuration",
        source=f"{TUCI}, claim 6",
        expected="difference of τ above 0 in all runs but at most one",
        measured=measured,
        verdict=verdict,
        why="As above.",
    )


def _shape(runs: Mapping[str, Grokking]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    for name, run in runs.items():
        values, jump = run.measures["SD"], run.jump
        before = values[run.began : jump + 1]
        rise = float(kendalltau(np.arange(len(before)), before).statistic) if len(before) > 4 else np.nan
        window = values[max(0, jump - NEAR) : jump + NEAR + 2]
        drop = (
            float(np.nanmax(-np.diff(window)) / (np.nanmax(values) - np.nanmin(values))) if len(window) > 1 else np.nan
        )
        after = values[jump + NEAR + 1 :]
        again = float(kendalltau(np.arange(len(after)), after).statistic) if len(after) > 4 else np.nan
        measured |= {f"{name}: τ before": rise, f"{name}: drop at the jump / range": drop, f"{name}: τ after": again}
        verdicts.append(judge(rise > 0 and drop > 0.2 and again > 0, rise, drop, again))
    return Finding(
        claim="The dimension rises before the jump, drops sharply at it, and rises again after",
        source=f"{TUCI}, claim 7",
        expected=f"τ with the step above 0 before and after; a drop by 20% of its range within {NEAR} checkpoints",
        measured=measured,
        verdict=together(verdicts),
        why="Before: from when half of the training data are learned. The jump is where the test accuracy rises most "
        "over three checkpoints.",
        status="shape from the paper; the limits are ours",
    )


def _others_fall(runs: Mapping[str, Grokking]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    for name, run in runs.items():
        for label in ("largest eigenvalue", "trace", "lifetime sum"):
            values = run.measures[label][run.began :]
            fit = np.isfinite(values)
            tau = float(kendalltau(np.flatnonzero(fit), values[fit]).statistic) if fit.sum() > 5 else np.nan
            measured[f"{name}: {label}"] = tau
            verdicts.append(judge(tau < -0.5, tau))
    return Finding(
        claim="The other measures fall monotonically",
        source=f"{TUCI}, claim 7",
        expected="τ with the step below -0.5, from when half of the training data are learned",
        measured=measured,
        verdict=together(verdicts),
        why="Sharpness, trace and lifetime sum of each run that grokked.",
        status="shape from the paper; the limit is ours",
    )


def _clearest(runs: Mapping[str, Grokking]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    for name, run in runs.items():
        found = {label: run.change(label) for label in MEASURES}
        measured |= {f"{name}: {label}": value for label, value in found.items()}
        ranked = sorted((label for label in found if not np.isnan(found[label])), key=lambda label: -found[label])
        verdicts.append(
            "holds" if set(ranked[:2]) == {"SD", "RDS sharpness"} else "fails" if len(ranked) > 2 else "inconclusive"
        )
    return Finding(
        claim="The sudden change is clearest in the RDS sharpness and in the dimension",
        source=f"{TUCI}, claim 8",
        expected="of all measures these two change most at the jump, over their usual change",
        measured=measured,
        verdict=together(verdicts),
        why=f"Largest change between checkpoints within {NEAR} of the jump, over the median change of the run.",
        status="visual in the paper; the figure is ours",
    )


def _before(runs: Mapping[str, Grokking]) -> Finding:
    """How many checkpoints ahead of the test accuracy each measure has gone half of its way."""
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    for name, run in runs.items():
        half = _halfway(run.test[run.began :])
        for label, values in run.measures.items():
            measured[f"{name}: {label}"] = float(half - _halfway(values[run.began :]))
        verdicts.append("holds" if measured[f"{name}: SD"] > 0 else "fails")
    return Finding(
        claim="The dimension moves before the test accuracy does",
        source="question of this study",
        expected="more than 0 checkpoints ahead, in every run that grokked",
        measured=measured,
        verdict=together(verdicts),
        why="Checkpoints by which a measure passes the middle between its first and last value before the test "
        "accuracy passes its own; first values are those at which half of the training data are learned.",
        status="ours",
    )


def _halfway(values: np.ndarray) -> float:
    fit = np.flatnonzero(np.isfinite(values))
    if not fit.size:
        return np.nan
    first, last = values[fit[0]], values[fit[-1]]
    passed = fit[(values[fit] - first) * np.sign(last - first) >= abs(last - first) / 2]
    return float(passed[0]) if passed.size and last != first else np.nan


def _has(record: Record, measure: str) -> bool:
    return measure in record.table()["measure"].unique().to_list()
