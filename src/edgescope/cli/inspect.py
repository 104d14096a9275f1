"""``edgescope inspect``: the curvature at a checkpoint, and the stability of an optimizer there."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich import box
from rich.table import Table
from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.options import check_float, check_int, check_seed
from edgescope.printable import printable
from edgescope.progress import Progress

if TYPE_CHECKING:
    from edgescope.cli.diagnosis import EstimatedCost
    from edgescope.linalg import Eigenpairs, TraceEstimate
    from edgescope.objective import Objective


@dataclass(frozen=True)
class Inspect(Command):
    """Measure loss, gradient norm, extreme Hessian eigenvalues and Hessian trace at a checkpoint.

    With --optimizer, also tell whether that optimizer is stable at the checkpoint, by comparing the sharpness in its
    own metric with its stability threshold. Adaptive optimizers need their state in the checkpoint.

    The checkpoint is a safetensors file, a file written by torch.save with a state_dict (by itself, or under the key
    "model", "state_dict" or "model_state_dict"), or the folder of a run. No code in it is executed.

    Examples:
      edgescope inspect model.safetensors --objective mymodule:objective
      edgescope inspect last.pt --objective mymodule:objective --optimizer sgd:momentum=0.9 --lr 0.1 --json
    """

    checkpoint: Positional[Path]
    """checkpoint file, or the folder of a run, for its newest checkpoint"""
    objective: Annotated[str, arg(metavar="MODULE:FUNCTION")]
    """function without arguments that returns an edgescope.Objective or (model, loss_fn, data)"""
    k: int = 6
    """number of eigenpairs at each end of the spectrum"""
    optimizer: Annotated[str | None, NoDefault] = None
    """optimizer to check for stability, such as adam or sgd:momentum=0.9"""
    lr: Annotated[float | None, NoDefault] = None
    """learning rate of the optimizer; by default the one in the checkpoint"""
    trace: Annotated[bool, NoDefault] = True
    """do not estimate the trace"""
    mode: Annotated[Literal["auto", "eval", "train", "batch-statistics"] | None, NoDefault] = None
    """how the model computes; auto uses batch statistics if training does, without dropout; by default auto, or as in
    the Objective that MODULE:FUNCTION returns"""
    dtype: Annotated[Literal["float32", "float64"] | None, NoDefault] = None
    """precision of the measurement; by default that of the model"""
    device: Annotated[str | None, NoDefault] = None
    """where to measure: cpu, cuda, cuda:1; by default where MODULE:FUNCTION puts the model"""
    seed: int = 0
    """random seed of start vectors and probes"""
    json: Annotated[bool, NoDefault] = False
    """print the result as JSON"""
    module: Modules = ()

    def run(self) -> int:
        import torch

        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.diagnosis import both_ends, check_point, estimate, trace_of
        from edgescope.cli.progress import ProgressLine
        from edgescope.cli.stability import candidate, stability
        from edgescope.cli.user_objective import loaded_objective
        from edgescope.cli.weights import read_weights
        from edgescope.objective.checks import check_device
        from edgescope.objective.modes import RUNNING, running_statistics
        from edgescope.optim import OPTIMIZERS

        check_int("inspect", "--k", self.k, least=1)
        check_seed("inspect", self.seed, "--seed")
        if self.optimizer is not None:
            OPTIMIZERS.build(self.optimizer)
        if self.lr is not None:
            check_float("inspect", "--lr", self.lr, above=0)
        check_device("inspect", self.device)
        keep_freed_memory()
        weights = read_weights(self.checkpoint)
        dtype = getattr(torch, self.dtype) if self.dtype else None
        objective = loaded_objective(self.objective, weights, dtype, self.mode, self.device)
        statistics = running_statistics(objective.model) if objective.mode == "eval" and self.optimizer else []
        if statistics:
            objective.notices.give("mode", f"'{statistics[0]}' {RUNNING}", cause="statistics")
        loss, gradient = check_point(objective)
        judged = self.optimizer and candidate(objective, self.optimizer, self.lr, weights.optimizer)
        expected = estimate(objective, self.k, with_trace=self.trace, with_metric=bool(judged and judged.metric))
        notes = Terminal(stderr=True)
        notes.print(f"estimated cost: {expected}", markup=False, soft_wrap=True)
        began, before = time.perf_counter(), objective.spent
        with ProgressLine("measuring", notes) as line:
            tell = _counted(line, expected, objective)
            pairs = both_ends(objective, self.k, self.seed, tell)
            trace = trace_of(objective, self.seed) if self.trace else None
            verdict = stability(objective, judged, pairs, self.seed, tell) if judged else None
        found: dict[str, Any] = {
            "checkpoint": str(weights.path),
            "parameters": objective.size,
            "samples": objective.samples,
            "dtype": str(objective.dtype).removeprefix("torch."),
            "mode": objective.mode,
            "loss": loss,
            "gradient_norm": gradient,
            "largest": _pairs(pairs, slice(None, self.k)),
            "smallest": _pairs(pairs, slice(self.k, None)),
            "trace": _trace(trace),
            "stability": verdict and dataclasses.asdict(verdict),
            "products": (objective.spent - before).products,
            "seconds": time.perf_counter() - began,
        }
        if self.json:
            say(json.dumps(found))
        else:
            _show(found)
        return 0


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


def _show(found: dict[str, Any]) -> None:
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
    if stability := found["stability"]:
        rate = "" if stability["lr"] is None else f" at learning rate {stability['lr']:g}"
        console.print(f"{stability['optimizer']}{rate}: {stability['verdict']}", style="bold", markup=False)
        say(f"  {stability['why']}")
        if threshold := stability["threshold"]:
            console.print(f"  threshold {threshold['formula']} ({threshold['source']})", markup=False, soft_wrap=True)
    console.print(f"{found['products']} products in {found['seconds']:.1f} s", markup=False)
