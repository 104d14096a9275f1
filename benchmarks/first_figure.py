"""What the first figure costs: the leading eigenpair from nothing, in gradients, and where that goes.

Each network is measured in processes of its own, on one thread, in time of the processor, over the time of one gradient
of the same model on the same data in the same process. The first call of a process imports what it needs; the second,
with what was remembered of the model forgotten, does not; the third remembers. Medians over several processes, but for
the largest network, which has one; the table goes to ``docs/benchmarks.md``. ``--quick`` takes small networks, to see
that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

PHASES = ("construction", "check of derivatives", "choice of the path", "products", "eigen-solver")
TARGETS = {"mlp": 40, "gpt-small": 60, "gpt": 75}
SEQUENCES = {"gpt-small": (64, 64), "gpt": (16, 128)}
ROUNDS = {"mlp": 5, "gpt-small": 3, "gpt": 1}


def data(name: str, quick: bool) -> tuple[Tensor, Tensor]:
    """One batch that holds all data: images, or random tokens with the next ones."""
    from edgescope.data import DATA

    if name == "mlp":
        images = DATA.build("fashion-5k:pool=2" + (",train=500" if quick else "")).load()
        return images.inputs, images.targets
    sequences, length = (8, 64) if quick else SEQUENCES[name]
    tokens = torch.randint(65, (sequences, length + 1), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def network(name: str, quick: bool, length: int) -> tuple[nn.Module, str]:
    """The model, and what it is. That of images is made without this library, whose imports are measured."""
    torch.manual_seed(0)
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(196, 50), nn.Tanh(), nn.Linear(50, 10)), "MLP 196-50-10"
    from edgescope.models import MODELS

    width, depth = (64, 2) if quick else {"gpt-small": (128, 4), "gpt": (384, 6)}[name]
    model = MODELS.build(f"gpt:width={width},depth={depth}").build((length,), 65, seed=0)
    return model, f"GPT, {depth} blocks of width {width}"


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


EXPLAINED = (
    "`top_eigenpairs(Objective(model, loss, data), k=1)` in a process that has loaded torch and taken gradients, in",
    "time of the processor. Parts are those of a second call in the same process; first imports are what the first one",
    "took more; in the last column a third one takes over which checks have passed and which paths are fastest.",
)


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


def one_process(name: str, quick: bool, path: str) -> None:
    """Measure in this process on the data in a file, and print the figures as JSON."""
    torch.set_num_threads(1)
    batch = torch.load(path)
    model, described = network(name, quick, batch[0].shape[1])
    size = sum(p.numel() for p in model.parameters())
    described += f", {size:,} parameters, {len(batch[0]):,} {'images' if name == 'mlp' else 'sequences'}"
    criterion = cross_entropy
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
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder  # as of an installed package: modules are compiled once
        path = f"{folder}/data.pt"
        torch.save(data(name, quick), path)
        command = [sys.executable, __file__, "--process", name, "--data", path, *(["--quick"] if quick else [])]
        for number in range(rounds + 1 if name == "mlp" else rounds):
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            if number or rounds == 1 or name != "mlp":
                found.append(json.loads(done.stdout))
    return {
        key: value if isinstance(value, str) else statistics.median(run[key] for run in found)
        for key, value in found[0].items()
    }


def table(quick: bool, names: list[str]) -> list[str]:
    """(f) The table, one row for each network."""
    columns = ("first imports", *PHASES)
    lines = [
        f"| network | first figure, all in | target | {' | '.join(columns)} | number of products | again, remembered |",
        "|---" * (len(columns) + 5) + "|",
    ]
    for name in names:
        found = measured(name, 1 if quick else ROUNDS[name], quick)
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
    options.add_argument("--data", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.process:
        one_process(given.process, given.quick, given.data)
        return
    lines = [
        "## (f) The first figure, in gradient evaluations",
        "",
        *EXPLAINED,
        "",
        *table(given.quick, given.only),
    ]
    print("\n".join(lines))
    if not given.quick and given.only == list(TARGETS):
        from curvature import write  # not in the processes that are measured, whose imports count

        write("f", lines)


if __name__ == "__main__":
    main()
