"""What a sweep over learning rates found, in sentences: the task, the critical and the best learning rate, doubts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any, Final

import polars as pl

from edgescope.report.numbers import number
from edgescope.store import Record
from edgescope.training import FlowEnd
from edgescope.training.best_rate import NEARLY, BestRate, Criterion, best_rate
from edgescope.training.schedules import SCHEDULES

SAME_START: Final = 1e-3
"""Relative difference of the losses at the start that rounding over threads and devices explains."""

CRITERIA: Final[dict[Criterion, str]] = {
    "test_loss": "test loss",
    "train_loss": "training loss",
    "steps": "number of steps to the stop loss",
}


def task_words(descents: Mapping[str, Record]) -> str:
    """What was trained, how, and down to where."""
    config = next(iter(descents.values())).config
    seeds = sorted({record.config["seed"] for record in descents.values()})
    what = config.get("function") or f"{config.get('model')} on {config.get('data')}"
    start = (
        "from one initialisation" if len(seeds) == 1 else f"from {len(seeds)} initialisations (seeds {_span(seeds)})"
    )
    stop = config.get("stop_loss")
    end = f"for {config['steps']} steps" if stop is None else f"down to a training loss of {stop:g}"
    how = [] if config["optimizer"] == "sgd" else [f"optimizer {config['optimizer']}"]
    how += [f"mini-batches of {config['batch']}"] if config.get("batch") else []
    how += [f"schedule {config['schedule']}"] if "schedule" in config else []
    how += [f"gradients clipped to a norm of {config['clip']:g}"] if config.get("clip") else []
    return f"{what}, {start} {end}{'; ' if how else ''}{', '.join(how)}."


def trainer_words(descents: Mapping[str, Record]) -> str:
    """What was trained in runs of a trainer of the user's, how, and for how long."""
    first = next(iter(descents.values()))
    seeds = sorted({record.config["seed"] for record in descents.values()})
    steps = sorted({record.last_step or 0 for record in descents.values() if record.status == "finished"})
    optimizers = ", ".join(str(one.get("name")) for one in first.info.get("optimizers", []))
    lasted = "" if not steps else f", {steps[0]}" + (f" to {steps[-1]}" if len(steps) > 1 else "") + " steps"
    drawn = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {_span(seeds)}"
    notes = first.table("loss").filter(part="test")["note"].to_list()
    tested = f" The {notes[-1].replace('test:', 'test loss is the')}." if notes and notes[-1] else ""
    return (
        f"{first.config['function']} in {first.config['trainer']}, optimizer {optimizers}{lasted}, {drawn}; the regimes"
        f" are the verdicts on each run, up to the last step with at least half of its learning rate.{tested}"
    )


def unused_rate_words(descents: Mapping[str, Record]) -> list[str]:
    """That runs of different learning rates had the same one in their optimizers, where that is so."""
    asked = {record.config["lr"] for record in descents.values()}
    used = {
        max((float(value) for value in record.series("learning_rate")[1]), default=None) for record in descents.values()
    }
    if len(asked) < 2 or len(used) > 1 or None in used:
        return []
    return [f"all runs had the learning rate {used.pop():g}: the function does not give lr to its optimizer."]


def _span(seeds: Sequence[int]) -> str:
    run_on = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if run_on else ", ".join(map(str, seeds))


def critical_words(
    flows: Mapping[int, FlowEnd], missing: str, config: Mapping[str, Any], factor: float | None, by_flow: bool
) -> list[str]:
    """The critical learning rate, with its range over seeds, or why there is none.

    ``flows`` are the ends of gradient flow by seed; ``factor`` is that of the optimizer's threshold; ``by_flow`` says
    that the regimes follow from them.
    """
    if factor is None:
        return [
            f"critical learning rate: none, since gradient flow does not give that of {config['optimizer']}; "
            f"{_verdicts(config)}."
        ]
    if not flows:
        return [f"critical learning rate: not known ({missing})."]
    first, flow = next(iter(flows.items()))
    critical = sorted(one.critical_for(factor) for one in flows.values())
    value = f"{factor:.4g} / {flow.sharpness:.4g}, the largest sharpness of gradient flow"
    course = f"at the start it was {flow.initial:.4g}, at the end {flow.end.sharpness:.4g}"
    if len(flows) == 1:
        lines = [f"critical learning rate {critical[0]:.4g} = {value} ({course})."]
    else:
        lines = [
            f"critical learning rate {median(critical):.4g}, the median over {len(flows)} seeds ({critical[0]:.4g} to "
            f"{critical[-1]:.4g}); with seed {first} it is {value} ({course})."
        ]
    if not by_flow:
        lines.append(
            f"it is that of full-batch training at a constant learning rate without clipping; {_verdicts(config)}."
        )
    elif config.get("batch"):
        lines.append(
            "it is that of the full batch: mini-batches settle at a lower sharpness, and may be unstable below it."
        )
    return lines


def _verdicts(config: Mapping[str, Any]) -> str:
    falls = SCHEDULES.build(config.get("schedule", "constant")).needs_total
    up_to = ", up to the last step with at least half of the learning rate" if falls else ""
    return f"the regimes are the verdicts on each run{up_to}"


def criterion_of(table: pl.DataFrame, equal_steps: bool) -> Criterion:
    """What is compared: the test loss; without test data the training loss after equally many steps, or else the number
    of steps to the stop loss, as runs that stop at it all end with the same training loss."""
    if table["test_loss"].drop_nulls().len():
        return "test_loss"
    return "train_loss" if equal_steps else "steps"


def best_words(table: pl.DataFrame, equal_steps: bool, critical_lr: float | None) -> str:
    """The best learning rate and the interval of rates that are as good."""
    criterion = criterion_of(table, equal_steps)
    found = best_rate(table, criterion)
    name = CRITERIA[criterion]
    if found is None:
        if table["diverged"].all():
            why = "every run diverged"
        elif criterion == "steps":
            why = "at none have the runs of all seeds reached the stop loss"
        else:
            why = "at none have the runs of all seeds ended with a finite loss"
        return f"best learning rate: none, since {why}."
    over = f", the mean over {found.seeds} seeds," if found.seeds > 1 else ""
    times = "" if critical_lr is None else f", {found.lr / critical_lr:.3g} times the critical learning rate"
    regime = ", ".join(table.filter(pl.col("lr") == found.lr)["regime"].unique(maintain_order=True))
    value = number(int(found.value) if criterion == "steps" and found.seeds == 1 else found.value)
    return f"best {name} {value}{over} at learning rate {found.lr:g}{times} ({regime}).{_interval_words(table, found)}"


def _interval_words(table: pl.DataFrame, found: BestRate) -> str:
    name = CRITERIA[found.criterion]
    by_seeds = found.noise > NEARLY * abs(found.value) * (1 + 1e-9)
    noise = f"one standard error over seeds ({found.noise:.2g})" if by_seeds else f"{NEARLY:.0%}"
    if found.low == found.high:
        words = f" No neighbouring learning rate has a {name} within {noise} of it"
    else:
        words = f" The learning rates from {found.low:g} to {found.high:g} have a {name} within {noise} of it"
        if found.high > found.lr and found.criterion != "steps":
            fewest, best = (mean(table.filter(pl.col("lr") == lr)["steps"].to_list()) for lr in (found.high, found.lr))
            if fewest < best:
                words += f"; the largest takes {fewest:.0f} steps in place of {best:.0f}"
    ends = [end for end, is_open in (("smallest", found.low_open), ("largest", found.high_open)) if is_open]
    if ends:
        words += f"; the interval ends at the {' and the '.join(ends)} that was tried, and may be wider"
    return words + "."


def doubts(records: Mapping[str, Record], flows: Mapping[int, FlowEnd]) -> list[str]:
    """What a reader has to know before believing the rest."""
    lines = []
    unfinished = [flow for flow in flows.values() if not flow.end.reached]
    if unfinished:
        lines.append(
            f"gradient flow did not reach the stop loss in {unfinished[0].end.steps} steps: its sharpness may still "
            "grow, and the critical learning rate may be lower; try more --steps."
        )
    if any(flow.sharpness <= 1.05 * flow.initial for flow in flows.values()):
        lines.append(
            "the sharpness of gradient flow never exceeded its initial value: without progressive sharpening, runs "
            "above the critical learning rate may leave the initial region and then follow gradient flow."
        )
    for seed in sorted({record.config["seed"] for record in records.values()}):
        ran = [record for record in records.values() if record.config["seed"] == seed]
        starts = [float(values[0]) for record in ran if (values := record.series("loss", "train")[1]).size]
        if starts and max(starts) - min(starts) > SAME_START * abs(max(starts)):
            lines.append(
                f"the runs did not start from the same parameters: the initial losses are {min(starts):.6g} to "
                f"{max(starts):.6g}; the function must return the same model at every call (torch's generator is "
                "seeded before)."
            )
            break
    return lines


def batched_words(records: Mapping[str, Record]) -> list[str]:
    """Which runs were trained in one batched program, and what that saved."""
    found = [info for record in records.values() if (info := record.info.get("batched"))]
    if not found:
        return []
    faster = found[0]["faster"]
    by = "" if faster is None else f", {faster:.1f} times faster than one by one by a probe"
    return [f"{len(found)} of {len(records)} runs were trained together{by}."]
