"""The diagnosis of several runs of one task: regimes, the best learning rate, and what goes with the test loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgescope.advice.section import Section, unknown
from edgescope.extras import Optional
from edgescope.monitor.reasons import CitedFigure, Reason
from edgescope.monitor.verdict import verdict_of
from edgescope.statistics.intervals import Bootstrap
from edgescope.statistics.kendall import kendall
from edgescope.store import Record
from edgescope.training.best_rate import best_rate

if TYPE_CHECKING:
    import polars as pl
else:
    pl = Optional("polars")

REGIMES = "How stable were the runs at the end?"
BEST = "Which learning rate tests best?"
FLATNESS = "Does flatness matter here?"
NORM = "Does the norm of the weights matter here?"

TASK: Final = ("function", "data", "model", "loss", "train", "stop_loss")
"""The options of a configuration by which two runs are of one task."""

LEAST_RUNS: Final = 6
"""Runs below which no rank correlation is told."""


@dataclass(frozen=True)
class EndOfRun:
    """How a run has ended: its regime, its learning rate (NaN of gradient flow), and its last readings.

    ``task`` is what it was trained on, and to, as its configuration has it. Readings are those that runs are compared
    by, NaN where there is none.
    """

    task: tuple[Any, ...]
    optimizer: str
    regime: str
    diverged: bool
    lr: float
    step: int
    test_loss: float
    sharpness: float
    l2: float

    @classmethod
    def of(cls, record: Record) -> EndOfRun:
        """That of the record of a run with a constant learning rate."""
        diverged = record.status == "diverged"
        task = tuple(record.config.get(name) for name in TASK)
        lr, optimizer = record.config.get("lr"), str(record.config.get("optimizer", ""))
        rate = float(lr) if isinstance(lr, int | float) and not optimizer.startswith("gradient-flow") else math.nan
        table = record.table("loss", "sharpness", "norms").drop_nulls("value").sort("step")
        last = {(m, p): (s, v) for m, p, s, v in table.select("measure", "part", "step", "value").iter_rows()}
        step, test_loss = last.get(("loss", "test"), (0, math.nan))
        rest = (last.get(key, (0, math.nan))[1] for key in (("sharpness", "1"), ("norms", "l2")))
        regime = "diverged" if diverged else verdict_of(record).regime
        return cls(task, optimizer, regime, diverged, rate, step, test_loss, *rest)


def advise_runs(places: Mapping[str, Path]) -> tuple[Section, ...]:
    """The sections of the diagnosis of the runs in these folders, such as those of a sweep, by name.

    From their records alone, which are opened one after the other. Rank correlations are Kendall's tau-b over the runs
    that have ended without diverging, with a bootstrap interval of 95% over these runs. They say what goes together
    among these runs, not what causes what. Raises :class:`MissingExtraError` without polars.
    """
    ended: dict[str, EndOfRun] = {}
    for name, place in places.items():
        with Record.open(place) as record:
            if record.status in ("finished", "diverged"):
                ended[name] = EndOfRun.of(record)
    trained = [end for end in ended.values() if not math.isnan(end.lr)]
    held = [end for end in trained if not end.diverged]
    if len({end.task for end in trained}) > 1:
        why = "The runs are of several tasks (data, model, loss or stop loss), so that they cannot be compared"
        questions = (("best-rate", BEST), ("flatness", FLATNESS), ("norm", NORM))
        return (_regimes(ended), *(unknown(topic, question, why) for topic, question in questions))
    return (
        _regimes(ended),
        _best(trained),
        _correlation("flatness", FLATNESS, "sharpness", held),
        _correlation("norm", NORM, "l2", held),
    )


def _regimes(ended: Mapping[str, EndOfRun]) -> Section:
    if not ended:
        return unknown("regimes", REGIMES, "No run has ended")
    found: dict[str, list[str]] = {}
    for name, end in ended.items():
        found.setdefault(end.regime, []).append(name)
    sentences = [f"{regime}: {len(names)} ({_few(names)})" for regime, names in found.items()]
    return Section("regimes", REGIMES, tuple(Reason(sentence, ()) for sentence in sentences))


def _best(trained: Sequence[EndOfRun]) -> Section:
    if len({end.optimizer for end in trained}) > 1:
        return unknown("best-rate", BEST, "The runs have several optimizers, whose learning rates cannot be compared")
    columns = {"lr": pl.Float64, "test_loss": pl.Float64, "diverged": pl.Boolean}
    table = pl.DataFrame([[getattr(end, name) for name in columns] for end in trained], schema=columns, orient="row")
    best = best_rate(table.with_columns(pl.lit(True).alias("reached")), "test_loss")
    if best is None:
        return unknown("best-rate", BEST, "There is no learning rate all of whose runs have a test loss")
    cited = CitedFigure("loss", "test", max(end.step for end in trained if end.lr == best.lr), best.value)
    mean = f", the mean over {best.seeds} seeds" if best.seeds > 1 else ""
    reasons = [Reason(f"{best.lr:.3g}, with a test loss of {cited}{mean}", (cited,))]
    if best.low < best.high:
        reasons.append(Reason(f"Rates from {best.low:.3g} to {best.high:.3g} are as good, up to noise", (cited,)))
    for beyond, end in ((best.low_open, "smallest"), (best.high_open, "largest")):
        if beyond and table["lr"].n_unique() > 1:
            reasons.append(Reason(f"The {end} rate that was tried is among these: the best may lie beyond it", ()))
    return Section("best-rate", BEST, tuple(reasons))


def _correlation(topic: str, question: str, quantity: str, held: Sequence[EndOfRun]) -> Section:
    pairs = [(getattr(end, quantity), end.test_loss) for end in held]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    what, measure = {"sharpness": ("the sharpness", "sharpness"), "l2": ("the norm of the weights", "norms")}[quantity]
    if len(pairs) < LEAST_RUNS:
        needed = f"{LEAST_RUNS} runs that have ended with a test loss and the measure '{measure}'"
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


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
