"""The diagnosis of several runs of one task: regimes, the best learning rate, and what goes with the test loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgescope.advice.section import Section, unknown
from edgescope.monitor.verdict import CitedFigure, Reason, verdict_of
from edgescope.statistics.intervals import Bootstrap
from edgescope.statistics.kendall import kendall

if TYPE_CHECKING:
    from edgescope.store import Record

REGIMES = "How stable were the runs at the end?"
BEST = "Which learning rate tests best?"
FLATNESS = "Does flatness matter here?"
NORM = "Does the norm of the weights matter here?"

LEAST_RUNS: Final = 6
"""Runs below which no rank correlation is told."""


@dataclass(frozen=True)
class LastReadings:
    """The learning rate of a run, and its last readings of what runs are compared by; NaN where there is none."""

    lr: float
    step: int
    test_loss: float
    sharpness: float
    l2: float

    @classmethod
    def of(cls, record: Record) -> LastReadings:
        """Those of the record of a run with a constant learning rate."""
        table = record.table("loss", "sharpness", "norms").drop_nulls("value").sort("step")
        last = {(m, p): (s, v) for m, p, s, v in table.select("measure", "part", "step", "value").iter_rows()}
        step, test_loss = last.get(("loss", "test"), (0, math.nan))
        rest = (last.get(key, (0, math.nan))[1] for key in (("sharpness", "1"), ("norms", "l2")))
        return cls(float(record.config["lr"]), step, test_loss, *rest)


def advise_runs(records: Mapping[str, Record]) -> tuple[Section, ...]:
    """The sections of the diagnosis of runs, such as those of a sweep, by name; from their records alone.

    Rank correlations are Kendall's tau-b over the runs that have ended without diverging, with a bootstrap interval of
    95% over these runs. They say what goes together among these runs, not what causes what. Raises
    :class:`MissingExtraError` without polars.
    """
    ended = {name: record for name, record in records.items() if record.status in ("finished", "diverged")}
    trained = {name: record for name, record in ended.items() if _rate(record) is not None}
    held = {name: LastReadings.of(record) for name, record in trained.items() if record.status != "diverged"}
    return (
        _regimes(ended),
        _best(held),
        _correlation("flatness", FLATNESS, "sharpness", held),
        _correlation("norm", NORM, "l2", held),
    )


def _rate(record: Record) -> float | None:
    """The learning rate of a run with steps of an optimizer; None of gradient flow."""
    lr, optimizer = record.config.get("lr"), str(record.config.get("optimizer", ""))
    return float(lr) if isinstance(lr, int | float) and not optimizer.startswith("gradient-flow") else None


def _regimes(ended: Mapping[str, Record]) -> Section:
    if not ended:
        return unknown("regimes", REGIMES, "No run has ended")
    found: dict[str, list[str]] = {}
    for name, record in ended.items():
        regime = "diverged" if record.status == "diverged" else verdict_of(record).regime
        found.setdefault(regime, []).append(name)
    sentences = [f"{regime}: {len(names)} ({_few(names)})" for regime, names in found.items()]
    return Section("regimes", REGIMES, tuple(Reason(sentence, ()) for sentence in sentences))


def _best(held: Mapping[str, LastReadings]) -> Section:
    tested = {name: end for name, end in held.items() if math.isfinite(end.test_loss)}
    if not tested:
        return unknown("best-rate", BEST, "There is no run with a test loss at its end")
    name = min(tested, key=lambda one: tested[one].test_loss)
    best = tested[name]
    cited = CitedFigure("loss", "test", best.step, best.test_loss)
    reasons = [Reason(f"{best.lr:.3g}, with a test loss of {cited} (run {name})", (cited,))]
    nearly = [end.lr for end in tested.values() if end.test_loss <= best.test_loss + 0.01 * abs(best.test_loss)]
    if len(nearly) > 1:
        reasons.append(Reason(f"Rates from {min(nearly):.3g} to {max(nearly):.3g} come within 1% of it", (cited,)))
    rates = [end.lr for end in tested.values()]
    if len(set(rates)) > 1 and best.lr in (min(rates), max(rates)):
        end = "largest" if best.lr == max(rates) else "smallest"
        reasons.append(Reason(f"It is the {end} that was tried, so that the best may lie beyond", ()))
    return Section("best-rate", BEST, tuple(reasons))


def _correlation(topic: str, question: str, quantity: str, held: Mapping[str, LastReadings]) -> Section:
    pairs = [(getattr(end, quantity), end.test_loss) for end in held.values()]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    what = {"sharpness": "the sharpness", "l2": "the norm of the weights"}[quantity]
    if len(pairs) < LEAST_RUNS:
        needed = f"{LEAST_RUNS} runs that have ended with a test loss and the measure '{topic_measure(quantity)}'"
        return unknown(topic, question, f"Not known: that takes {needed}, and there are {len(pairs)}")
    x, y = np.array(pairs).T
    if len(np.unique(x)) == 1 or len(np.unique(y)) == 1:
        return unknown(topic, question, f"Not known: {what}, or the test loss, is the same in all runs")
    found = kendall(x, y, ties="b", bootstrap=Bootstrap())
    words = f"Kendall's tau of {what} and the test loss is {found.value:.2f}, in [{found.low:.2f}, {found.high:.2f}]"
    if not (math.isfinite(found.low) and math.isfinite(found.high)) or found.low <= 0 <= found.high:
        sentence = f"Not decided by these {len(pairs)} runs: {words}"
    elif found.low > 0:
        sentence = f"Yes, among these {len(pairs)} runs a smaller value goes with a smaller test loss: {words}"
    else:
        sentence = (
            f"The other way round: among these {len(pairs)} runs a larger value goes with a smaller test loss: {words}"
        )
    return Section(topic, question, (Reason(sentence, ()),))


def topic_measure(quantity: str) -> str:
    """The measure that a run needs for this quantity at its end."""
    return {"sharpness": "sharpness", "l2": "norms"}[quantity]


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
