"""Memory of the leading eigenpairs of large models: peak resident memory above the start, in floats a parameter.

Each row is measured in a process of its own that has built the model, taken a gradient, and measured a tiny model, so
that libraries are loaded. From there on the largest resident memory is read from the system (VmHWM, Linux), divided by
4 bytes and by the number of parameters; the model itself is not counted.

    python benchmarks/large_models.py [--only NAME ...] [--quick]

The GPT of 1e7 parameters has 6 blocks of width 384, 65 tokens and 16 sequences of 64. GPT-2 has 12 blocks of width 768,
50,257 tokens, a tied last layer and one sequence of 128 random tokens at its initialization; its loss is
``linear_cross_entropy``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import edgescope as es


@dataclass(frozen=True)
class Task:
    """One measurement: a model, the number of pairs, the tolerance, and the limit in MiB (None: the default)."""

    model: str
    k: int
    tol: float
    limit: int | None = None


TASKS = {
    "gpt-k1": Task("gpt", 1, 1e-3),
    "gpt-k6": Task("gpt", 6, 1e-3),
    "gpt-1.2GiB": Task("gpt", 1, 1e-3, 1228),
    "gpt-0.9GiB": Task("gpt", 1, 1e-3, 900),
    "gpt2-16GiB": Task("gpt2", 1, 0.1, 16 * 1024),
    "gpt2-10GiB": Task("gpt2", 1, 0.1, 10 * 1024),
}


class Tied(nn.Module):
    """The package's GPT with the weight of its last layer that of the embedding, as in GPT-2."""

    def __init__(self, gpt: nn.Module) -> None:
        super().__init__()
        self.gpt = gpt
        gpt.head.weight = gpt.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.gpt(tokens)


def network(name: str, quick: bool) -> tuple[nn.Module, tuple[Tensor, Tensor], Any]:
    width, depth, tokens, sequences, length = {
        "gpt": (384, 6, 65, 16, 64),
        "gpt2": (768, 12, 50257, 1, 128),
    }[name]
    if quick:
        width, depth, tokens, length = 48, 2, min(tokens, 2000), 32
    spec = f"gpt:width={width},depth={depth},heads={width // 64 or 1}"
    model = es.MODELS.build(spec).build((length,), tokens, seed=0)
    if name == "gpt2":
        model = Tied(model)
    drawn = torch.randint(tokens, (sequences, length + 1), generator=torch.Generator().manual_seed(0))
    loss = "linear-cross-entropy:head=gpt.head" if name == "gpt2" else "cross-entropy"
    return model, (drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()), es.supervised(es.LOSSES.build(loss))


def resident(key: str) -> int:
    """A number of bytes out of the status of this process: VmRSS now, VmHWM at its peak."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found.group(1))


def one_process(task: Task, quick: bool) -> None:
    torch.set_num_threads(1)
    tiny, data, loss = network(task.model, quick=True)
    es.top_eigenpairs(es.Objective(tiny, loss, data), k=1, tol=0.1)
    model, data, loss = network(task.model, quick)
    torch.autograd.grad(loss(model, data), list(model.parameters()))
    size = sum(p.numel() for p in model.parameters())
    limit = None if task.limit is None else task.limit * 2**20
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, began = resident("VmRSS"), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        objective = es.Objective(model, loss, data, memory_limit=limit, threads=1)
        pairs = es.top_eigenpairs(objective, k=task.k, tol=task.tol)
    peak = resident("VmHWM") - before
    found = {
        "parameters": size,
        "peak": peak,
        "floats": peak / 4 / size,
        "products": pairs.products,
        "seconds": time.perf_counter() - began,
        "residual": float((pairs.residuals / pairs.values.abs()).max()),
        "value": float(pairs.values[0]),
        "note": pairs.note,
        "path": objective.plan().path,
        "converged": bool(pairs.converged.all()),
    }
    print(json.dumps(found))


def table(names: list[str], quick: bool) -> list[str]:
    lines = [
        "| model | pairs, tolerance | limit, GiB | peak, GiB | floats a parameter | products | minutes | residual"
        " | graphs | what the result says |",
        "|---" * 10 + "|",
    ]
    for name in names:
        task = TASKS[name]
        command = [sys.executable, __file__, "--process", name, *(["--quick"] if quick else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        r = json.loads(done.stdout.splitlines()[-1])
        limit = "" if task.limit is None else f"{task.limit / 1024:.1f}"
        lines.append(
            f"| {task.model}, {r['parameters']:,} parameters | {task.k}, {task.tol:g} | {limit}"
            f" | {r['peak'] / 2**30:.2f} | {r['floats']:.1f}"
            f" | {r['products']} | {r['seconds'] / 60:.1f} | {r['residual']:.1e} | {r['path']}"
            f" | {r['note'] or ''} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="small networks, nothing written")
    options.add_argument("--only", choices=TASKS, nargs="+", default=list(TASKS), help="rows to measure")
    options.add_argument("--process", metavar="ROW", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.process:
        one_process(TASKS[given.process], given.quick)
        return
    lines = ["## (m) Memory of the leading eigenpairs of large models", "", *table(given.only, given.quick)]
    print("\n".join(lines))
    if not given.quick and given.only == list(TASKS):
        from curvature import write

        write("m", lines)


if __name__ == "__main__":
    main()
