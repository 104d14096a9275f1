"""Choosing a derivative path and a number of threads by a short timing, once for an objective and a block width."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from edgescope.errors import EdgescopeError
from edgescope.memory import budget
from edgescope.objective.modules import thread_count
from edgescope.objective.paths import Compiled, DoubleBackward, ForwardOverReverse, Path, Point, Problem, named_fault

PathName = Literal["kept", "kept-batched", "rebuilt", "rebuilt-batched", "forward", "compiled"]

BUILD_SECONDS = 45.0
"""What compiling a product was seen to take at most (9 to 47 s); a run must be long enough to earn it back."""


@dataclass(frozen=True)
class Plan:
    """How products are computed: the path, the threads, and what the probe measured.

    ``product_cost`` is the time of one product over that of one gradient (NaN where the caller fixed path and threads
    and nothing was timed); ``gradient_seconds`` is one gradient over all data.
    """

    path: str
    threads: int
    width: int
    product_cost: float = float("nan")
    gradient_seconds: float = float("nan")


def make_path(name: str) -> Path:
    match name:
        case "forward":
            return ForwardOverReverse()
        case "compiled":
            return Compiled()
        case _:
            return DoubleBackward(keep=name.startswith("kept"), batched=name.endswith("batched"))


def choose_threads(gradient: Callable[[], object]) -> tuple[int, float]:
    """One thread or as many as are set, whichever computes a gradient faster now; with the seconds it took.

    Two threads that share their cores with another process wait for each other at every small operation: 50 times
    slower than one was seen. So this is timed, not assumed.
    """
    most = torch.get_num_threads()
    timings: dict[int, float] = {}
    for number in {1, most}:
        with thread_count(number):
            timings[number] = _best_of(gradient)
    fastest = min(timings, key=lambda n: timings[n])
    return fastest, timings[fastest]


def choose_path(
    problem: Problem,
    point: Callable[[], Point],
    width: int,
    *,
    gradient_seconds: float,
    graph_bytes: int,
    memory_limit: int | None,
    expected_products: int | None,
    double_backward_only: bool,
) -> tuple[Path, float]:
    """The path whose products take least time at this block width, and the seconds of one product.

    The reference is double backward, kept if its graph fits into memory; every other path has to give the same
    product before its time counts. Costs some 5 to 20 gradients, less where a product is slow.
    """
    here = point()
    device = here.flat.device
    keep = graph_bytes <= budget(device, memory_limit) // 2
    rows = torch.randn(width, here.flat.numel(), dtype=here.flat.dtype, device=device)
    best: Path = DoubleBackward(keep=keep)
    try:
        reference = best.products(problem, here, rows)
    except Exception as error:
        raise named_fault(error) from error
    seconds = _best_of(lambda: best.products(problem, here, rows)) / width
    if double_backward_only:
        return best, seconds
    rivals: list[Path] = []
    if width > 1 and seconds < 0.5:
        rivals.append(DoubleBackward(keep=keep, batched=True))
    if seconds < 0.5 and graph_bytes * width <= budget(device, memory_limit):
        rivals.append(ForwardOverReverse())
    if expected_products and Compiled.possible() and expected_products * seconds > 10 * BUILD_SECONDS:
        rivals.append(Compiled())
    for rival in rivals:
        try:
            found = rival.products(problem, here, rows)
            agrees = bool((found - reference).norm() <= _slack(found.dtype) * reference.norm())
            took = _best_of(lambda rival=rival: rival.products(problem, here, rows)) / width if agrees else None
        except (RuntimeError, NotImplementedError, EdgescopeError, TypeError, ValueError):
            continue  # no such derivative for some operation of this model
        if took is not None and took < 0.95 * seconds:
            best, seconds = rival, took
    return best, seconds


def _best_of(work: Callable[[], object], least: int = 2, enough: float = 0.2) -> float:
    """The shortest of a few timings: what else the machine does can only lengthen one."""
    times: list[float] = []
    while len(times) < least or (sum(times) < enough and len(times) < 5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
        if times[-1] > 1.0:
            break
    return min(times)


def _slack(dtype: torch.dtype) -> float:
    return 1e-8 if dtype == torch.float64 else 2e-3
