"""One checkpoint: what is measured there as data, and as text for a terminal."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

from rich import box
from rich.table import Table

from edgescope.cli.diagnosis import EstimatedCost, both_ends, check_point, estimate, trace_of
from edgescope.cli.say import say
from edgescope.cli.stability import candidate, stability
from edgescope.cli.terminal import Terminal
from edgescope.cli.weights import Weights
from edgescope.linalg import Eigenpairs, TraceEstimate
from edgescope.objective import Objective
from edgescope.objective.modes import RUNNING, running_statistics
from edgescope.printable import printable
from edgescope.progress import Progress
from edgescope.sharpness import PerturbedLoss, perturbed_losses


@dataclasses.dataclass(frozen=True)
class Questions:
    """What is asked about a checkpoint: the fields of the command ``inspect``."""

    k: int
    optimizer: str | None
    lr: float | None
    trace: bool
    perturb: bool
    seed: int


def inspected(
    objective: Objective,
    weights: Weights,
    asked: Questions,
    on_cost: Callable[[EstimatedCost], None],
    line: Progress,
) -> dict[str, Any]:
    """The figures of a checkpoint, whose weights are in the objective's model, ready for JSON."""
    statistics = running_statistics(objective.model) if objective.mode == "eval" and asked.optimizer else []
    if statistics:
        text = f"'{statistics[0]}' {RUNNING}"
        objective.notices.give("mode", text, faq="running-statistics", hint="mode='auto'", cause="statistics")
    loss, gradient = check_point(objective)
    judged = asked.optimizer and candidate(objective, asked.optimizer, asked.lr, weights.optimizer)
    expected = estimate(objective, asked.k, with_trace=asked.trace, with_metric=bool(judged and judged.metric))
    on_cost(expected)
    began, before = time.perf_counter(), objective.spent
    tell = _counted(line, expected, objective)
    pairs = both_ends(objective, asked.k, asked.seed, tell)
    trace = trace_of(objective, asked.seed) if asked.trace else None
    verdict = stability(objective, judged, pairs, asked.seed, tell) if judged else None
    perturbed = perturbed_losses(objective, seed=asked.seed) if asked.perturb else ()
    return {
        "checkpoint": str(weights.path),
        "parameters": objective.size,
        "samples": objective.samples,
        "dtype": str(objective.dtype).removeprefix("torch."),
        "mode": objective.mode,
        "loss": loss,
        "gradient_norm": gradient,
        "parameter_norm": float(objective.parameters().double().norm()),
        "largest": _pairs(pairs, slice(None, asked.k)),
        "smallest": _pairs(pairs, slice(asked.k, None)),
        "trace": _trace(trace),
        "stability": verdict and dataclasses.asdict(verdict),
        "perturbed": [_perturbed(one) for one in perturbed],
        "products": (objective.spent - before).products,
        "seconds": time.perf_counter() - began,
    }


def _counted(line: Progress, expected: EstimatedCost, objective: Objective) -> Any:
    each, before = expected.seconds / expected.products, objective.spent.products

    def tell(_: int, residual: float) -> None:
        done = objective.spent.products - before
        left = max(0.0, expected.products - done) * each
        words = f"{done} products, worst relative residual {residual:.1e}"
        line(min(0.99, done / expected.products), words, left)

    return tell


def _pairs(pairs: Eigenpairs, places: slice) -> list[dict[str, Any]]:
    columns = (pairs.values, pairs.residuals, pairs.error, pairs.converged)
    rows = zip(*(column[places].tolist() for column in columns), strict=True)
    return [dict(zip(("value", "residual", "error", "converged"), row, strict=True)) for row in rows]


def _trace(trace: TraceEstimate | None) -> dict[str, Any] | None:
    if trace is None:
        return None
    return {
        "value": trace.value,
        "standard_error": trace.error,
        "products": trace.products,
        "method": trace.method,
    }


def show_inspection(found: dict[str, Any]) -> None:
    console = Terminal()
    console.print(
        f"{printable(found['checkpoint'])}: {found['parameters']:,} parameters, {found['samples']:,} samples, measured"
        f" in {found['dtype']}, mode {found['mode']}\nloss {found['loss']:.6g}, norm of the gradient"
        f" {found['gradient_norm']:.4g}",
        markup=False,
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("eigenvalue of the Hessian", "residual", "error of the value", "converged"):
        table.add_column(heading, justify="right")
    for end in ("largest", "smallest"):
        for pair in found[end]:
            table.add_row(
                f"{pair['value']:.6g}",
                f"{pair['residual']:.1e}",
                f"{pair['error']:.1e}",
                "yes" if pair["converged"] else "NO",
            )
        table.add_section()
    console.print(table)
    if trace := found["trace"]:
        exact = (
            "exact up to rounding" if trace["method"] == "exact" else f"± {trace['standard_error']:.2g} standard error"
        )
        console.print(f"trace {trace['value']:.6g} ({exact}, {trace['products']} products)", markup=False)
    if found["perturbed"]:
        console.print(perturbation_table([found]))
    if stability := found["stability"]:
        rate = "" if stability["lr"] is None else f" at learning rate {stability['lr']:g}"
        console.print(f"{stability['optimizer']}{rate}: {stability['verdict']}", style="bold", markup=False)
        say(f"  {stability['why']}")
        if threshold := stability["threshold"]:
            console.print(f"  threshold {threshold['formula']} ({threshold['source']})", markup=False, soft_wrap=True)
    console.print(f"{found['products']} products in {found['seconds']:.1f} s", markup=False)


def _perturbed(one: PerturbedLoss) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "amount": one.amount,
        "loss": _finite(one.loss),
        "increase": _finite(one.increase.value),
        "low": _finite(one.increase.low),
        "high": _finite(one.increase.high),
        "distance": _finite(one.distance),
        "draws": one.draws,
    }


def _finite(value: float) -> float | None:
    """JSON has no infinities."""
    return value if math.isfinite(value) else None


def perturbation_table(inspections: list[dict[str, Any]], names: tuple[str, ...] = ("",)) -> Table:
    """The increase of the loss under each perturbation, one column a checkpoint."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("weights")
    table.add_column("relative change", justify="right")
    for name in names:
        table.add_column(f"loss increases by{', ' * bool(name)}{name}", justify="right")
    for row in zip(*(found["perturbed"] for found in inspections), strict=True):
        distance = row[0]["distance"]
        table.add_row(
            f"rounded to {row[0]['amount']:.0f} bits"
            if row[0]["kind"] == "rounding"
            else f"noise of {row[0]['amount']:.0%}",
            "" if distance is None else f"{distance:.3f}",
            *map(_increase, row),
        )
    return table


def _increase(row: dict[str, Any]) -> str:
    if row["increase"] is None:
        return "not finite"
    if row["kind"] == "rounding":
        return f"{row['increase']:+.3g}"
    return f"{row['increase']:+.3g} ± {(row['high'] - row['low']) / 2:.1g}"
