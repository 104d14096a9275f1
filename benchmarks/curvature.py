"""What curvature costs: products in gradient evaluations, following an eigenvalue, and six eigenpairs against peers.

Everything runs in one process on the same work, on one thread, as medians of several rounds in turn; the table goes to
``docs/benchmarks.md``. ``--quick`` takes smaller problems and fewer rounds, to see that it runs.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peers import METHODS, TOLERANCE, quality
from problems import Problem, cnn, mlp, transformer
from scipy.sparse.linalg import LinearOperator, eigsh
from threadpoolctl import threadpool_limits
from torch import Tensor

import edgescope as es
from edgescope.allocator import keep_freed_memory

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def product_costs(rounds: int, quick: bool) -> list[str]:
    """(a) One Hessian product in gradient evaluations, single and in blocks of eight, per vector."""
    lines = [
        "| network | path | one vector | block of 8, per vector | target |",
        "|---|---|---|---|---|",
    ]
    work = [
        (mlp(500 if quick else 5000), 1.3, None),
        (cnn(100 if quick else 1000), 1.8, None),
        (transformer(), 2.6, None),
    ]
    if not quick:
        work.append((cnn(), 1.2, "compiled"))
    for problem, target, path in work:
        parameters = list(problem.model.parameters())

        def gradient(problem: Problem = problem, parameters: list[Tensor] = parameters) -> object:
            return torch.autograd.grad(problem.loss(), parameters)

        costs: dict[int, float] = {}
        paths: list[str] = []
        for width in (1, 8):
            objective = problem.objective(threads=None, path=path or "auto")
            vectors = torch.randn(objective.size, width, generator=torch.Generator().manual_seed(1))
            objective.hvp(vectors)
            paths.append(objective.plan(width).path)
            ratios = []
            for _ in range(rounds):
                base = timed(gradient)
                ratios.append(timed(lambda v=vectors, o=objective: o.hvp(v)) / width / base)
            costs[width] = statistics.median(ratios)
        shown = " / ".join(dict.fromkeys(paths))
        lines.append(f"| {problem.name} | {shown} | {costs[1]:.2f} | {costs[8]:.2f} | {target} |")
    return lines


def following(quick: bool) -> list[str]:
    """(b) The leading eigenvalue at every one of 200 consecutive steps at the edge, against float64 ARPACK."""
    problem = mlp(300 if quick else 1000)
    lr, steps = 0.35, 40 if quick else 200
    problem.descend(lr, 50 if quick else 500)
    objective = problem.objective(threads=None, path="kept")
    exact = problem.objective(dtype=torch.float64, threads=None, path="kept")
    tracker = es.EigenTracker(objective, k=1)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr)
    products, errors, ratios, seed = [], [], [], None
    for _ in range(steps):
        found = tracker.update()
        operator = LinearOperator(
            (exact.size, exact.size), lambda v: exact.hvp(torch.from_numpy(v).reshape(-1)).numpy(), dtype=np.float64
        )
        value, vector = eigsh(operator, k=1, which="LA", tol=1e-7, v0=seed)
        seed = vector[:, 0]
        products.append(found.products)
        errors.append(abs(float(found.values[0]) - value[0]) / value[0])
        ratios.append(value[0] * lr / 2)
        optimizer.zero_grad()
        problem.loss().backward()
        optimizer.step()
    rest = products[4:]
    return [
        f"{problem.name}, learning rate {lr}, {steps} consecutive steps; sharpness over threshold "
        f"{min(ratios):.2f} to {max(ratios):.2f} (median {statistics.median(ratios):.2f}).",
        "",
        "| | measured | target |",
        "|---|---|---|",
        f"| products a step, mean | {statistics.mean(rest):.1f} | 7 (aim 5) |",
        f"| products a step, largest | {max(rest)} | |",
        f"| worst relative error against float64 ARPACK | {max(errors):.1e} | 1e-3 |",
    ]


def six_pairs(rounds: int, quick: bool) -> list[str]:
    """(c) Six eigenpairs from nothing, to a relative residual of 1e-3, by everyone in turn."""
    lines = []
    for problem, lr in ((mlp(500 if quick else 5000), 0.25), (cnn(100 if quick else 300), 0.5)):
        problem.descend(lr, 20 if quick else 150)
        problem.model.eval()
        parameters = list(problem.model.parameters())
        exact = problem.objective(dtype=torch.float64, threads=None, path="kept")
        reference = es.top_eigenpairs(exact, k=6, tol=1e-7).values.numpy()
        exact.release()
        seconds: dict[str, list[float]] = {name: [] for name in METHODS}
        found: dict[str, tuple[float, float]] = {}
        gradients = []
        for number in range(rounds):
            gradients.append(timed(lambda p=parameters, q=problem: torch.autograd.grad(q.loss(), p)))
            for name, method in METHODS.items():
                box: list = []
                seconds[name].append(timed(lambda m=method, b=box, q=problem: b.append(m(q, 6))))
                if number == 0:
                    found[name] = quality(problem, box[0], reference)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        peers = [name for name in medians if name != "Edgescope"]
        right = [name for name in peers if found[name][0] <= 2 * TOLERANCE]
        best = min(medians[name] for name in peers)
        equal = min((medians[name] for name in right), default=float("nan"))
        base = statistics.median(gradients)
        lines += [
            f"{problem.name}",
            "",
            "| | time over Edgescope's | in gradient evaluations | worst relative residual | worst error of a value |",
            "|---|---|---|---|---|",
        ]
        for name, value in medians.items():
            residual, error = found[name]
            lines.append(
                f"| {name} | {value / medians['Edgescope']:.2f} | {value / base:.0f} | {residual:.1e} | {error:.1e} |"
            )
        ours = medians["Edgescope"]
        lines += [
            "",
            f"Edgescope over the fastest peer that reached the residual: {ours / equal:.2f} (target 0.50, aim 0.33);",
            f"over the fastest of all, whatever its accuracy: {ours / best:.2f}.",
            "",
        ]
    return lines


def memory(quick: bool) -> list[str]:
    """(d) Peak memory of the same call, each in a process of its own, above what the network and data take."""
    lines = ["| | peak above the start (MiB) |", "|---|---|"]
    for name in METHODS:
        command = [sys.executable, __file__, "--memory", name, *(["--quick"] if quick else [])]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
        lines.append(f"| {name} | {peak} |")
    return lines


def one_memory(name: str, quick: bool) -> None:
    problem = mlp(500 if quick else 5000)
    torch.autograd.grad(problem.loss(), list(problem.model.parameters()))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading the data
    before = peak_memory()
    METHODS[name](problem, 6)
    print(round((peak_memory() - before) / 1024))


def peak_memory() -> int:
    """The largest resident memory of this process so far, in KiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


SECTIONS = {
    "a": ("Cost of a Hessian product, in gradient evaluations", lambda quick: product_costs(2 if quick else 5, quick)),
    "b": ("Following the leading eigenvalue at the edge", lambda quick: following(quick)),
    "c": ("Six eigenpairs, cold, to a residual of 1e-3", lambda quick: six_pairs(1 if quick else 3, quick)),
    "d": ("Peak memory of (c) on the MLP", lambda quick: memory(quick)),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="small problems, few rounds, nothing written")
    options.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS), help="sections to measure")
    options.add_argument("--memory", metavar="METHOD", help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # and that of NumPy and SciPy
    if given.memory:
        one_memory(given.memory, given.quick)
        return
    keep_freed_memory()
    for letter in given.only:
        title, section = SECTIONS[letter]
        lines = [f"## ({letter}) {title}", "", *section(given.quick)]
        print("\n".join(["", *lines]), flush=True)
        if not given.quick:
            write(letter, lines)


def write(letter: str, lines: list[str], precision: str = "float32") -> None:
    """Put a section in its place on the page."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(f"<!-- {letter} -->\n")
    tail = rest.partition(f"<!-- end {letter} -->")[2] or "\n"
    head = head if rest else f"{head.rstrip()}\n\n"  # a section that is new comes last
    machine = f"torch {torch.__version__}, Python {platform.python_version()}, one thread, {precision}."
    body = "\n".join([*lines, "", machine])
    PAGE.write_text(f"{head}<!-- {letter} -->\n{body}\n<!-- end {letter} -->{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
