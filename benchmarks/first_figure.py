"""What the first figure costs: the leading eigenpair from nothing, in gradients, and where that goes.

Each network is measured in processes of its own, on one thread, in time of the processor, over the time of one gradient
of the same model on the same data in the same process. The first call of a process imports what it needs; the second,
with what was remembered of the model forgotten, does not; the third remembers. Medians over processes; the table goes
to ``docs/benchmarks.md``. ``--quick`` takes small networks, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

PHASES = ("construction", "check of derivatives", "choice of the path", "products", "eigen-solver")
TARGETS = {"mlp": 40, "gpt-small": 60, "gpt": 75}


def problem(name: str, quick: bool) -> tuple[nn.Module, Callable[..., Tensor], tuple[Tensor, Tensor], str]:
    """The model, its criterion, one batch with all data, and the row's name."""
    from edgescope.models import MODELS

    numbers = torch.Generator().manual_seed(0)
    if name == "mlp":
        from edgescope.data import DATA

        data = DATA.build("fashion-5k:pool=2" + (",train=500" if quick else "")).load()
        model = MODELS.build("mlp:widths=50").build(data.input_shape, data.classes, seed=0)
        batch, described = (data.inputs, data.targets), f"MLP 196-50-10, {len(data.inputs):,} images"
    else:
        width, depth, sequences, length = {"gpt-small": (128, 4, 64, 64), "gpt": (384, 6, 16, 128)}[name]
        if quick:
            width, depth, sequences = 64, 2, 8
        model = MODELS.build(f"gpt:width={width},depth={depth}").build((length,), 65, seed=0)
        tokens = torch.randint(65, (sequences, length + 1), generator=numbers)
        batch = (tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        described = f"GPT, {depth} blocks of width {width}, {sequences} x {length} tokens"
    size = sum(p.numel() for p in model.parameters())
    return model, cross_entropy, batch, f"{described}, {size:,} parameters"


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


class Phases:
    """Processor time in each part of the library, without that of the parts inside."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._open: list[list[Any]] = []

    def of(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            self._open.append([0.0])
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - start
                (inside,) = self._open.pop()
                self.seconds[phase] += took - inside
                if self._open:
                    self._open[-1][0] += took

        return timed


def one_process(name: str, quick: bool) -> None:
    """Measure in this process, and print the figures as JSON."""
    torch.set_num_threads(1)
    model, criterion, batch, described = problem(name, quick)
    parameters = list(model.parameters())

    def gradient() -> float:
        start = time.process_time()
        torch.autograd.grad(criterion(model(batch[0]), batch[1]), parameters)
        return time.process_time() - start

    gradient()
    base = [gradient() for _ in range(5)]
    calls, products = [], 0
    for number in range(3):
        start = time.process_time()
        import edgescope as es

        if number == 1:
            es.forget_choices()
        phases = Phases() if number else None
        if phases is not None:
            _instrument(phases)
        loss = es.supervised(criterion)
        objective = es.Objective(model, loss, batch, threads=None)
        found = es.top_eigenpairs(objective, k=1)
        calls.append((time.process_time() - start, phases.seconds if phases is not None else {}))
        products = found.products
        assert bool(found.converged.all())
        del objective, found
        base += [gradient() for _ in range(5)]
    one = statistics.median(base)
    cold, again, remembered = calls
    parts = {phase: seconds / one for phase, seconds in again[1].items()}
    parts["eigen-solver"] = again[0] / one - sum(parts.values())
    print(
        json.dumps(
            {
                "network": described,
                "first": cold[0] / one,
                "imports": (cold[0] - again[0]) / one,
                "remembered": remembered[0] / one,
                "products_made": products,
                **parts,
            }
        )
    )


def _instrument(phases: Phases) -> None:
    import edgescope.objective.curvature as curvature
    from edgescope.objective import Objective
    from edgescope.objective.plan import Planner

    for owner, name, phase in (
        (Objective, "__init__", "construction"),
        (curvature, "refuse_wrong_hessian", "check of derivatives"),
        (Planner, "choose", "choice of the path"),
        (Planner, "prepare", "choice of the path"),
        (Objective, "_product", "products"),
    ):
        now = getattr(owner, name)
        plain = getattr(now, "plain", now)
        timed = phases.of(phase, plain)
        timed.plain = plain  # type: ignore[attr-defined]
        setattr(owner, name, timed)


def measured(name: str, rounds: int, quick: bool) -> dict[str, Any]:
    """The medians over so many processes."""
    command = [sys.executable, __file__, "--process", name, *(["--quick"] if quick else [])]
    found = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(rounds)
    ]
    return {
        key: value if isinstance(value, str) else statistics.median(run[key] for run in found)
        for key, value in found[0].items()
    }


def table(rounds: int, quick: bool, names: list[str]) -> list[str]:
    """(f) The table, one row for each network."""
    columns = ("first imports", *PHASES)
    lines = [
        f"| network | first figure, all in | target | {' | '.join(columns)} | products | again, remembered |",
        "|---" * (len(columns) + 5) + "|",
    ]
    for name in names:
        found = measured(name, rounds, quick)
        parts = " | ".join(f"{found[key]:.1f}" for key in ("imports", *PHASES))
        lines.append(
            f"| {found['network']} | {found['first']:.0f} | {TARGETS[name]} | {parts} | {found['products_made']:.0f} "
            f"| {found['remembered']:.0f} |"
        )
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="small networks, nothing written")
    options.add_argument("--only", choices=TARGETS, nargs="+", default=list(TARGETS), help="networks to measure")
    options.add_argument("--process", metavar="NETWORK", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.process:
        one_process(given.process, given.quick)
        return
    lines = [
        "## (f) The first figure, in gradient evaluations",
        "",
        *table(1 if given.quick else 3, given.quick, given.only),
    ]
    print("\n".join(lines))
    if not given.quick and given.only == list(TARGETS):
        from curvature import write

        write("f", lines)


if __name__ == "__main__":
    main()
