"""Time and memory of measures against parameters, samples, eigenpairs, processes and the length of a record.

Each measurement is one process of its own: a network with tanh units on random data, on one thread. Times are those of
the processor, in gradients of the same model on the same data in the same process. Memory is the peak of the process
above what it held before the measurement, in numbers of the model's precision for each parameter. Exponents are fitted
by least squares to the logarithms of the larger half of the sizes. The tables and figures go to ``docs/scaling.md``,
the figures behind them to ``benchmarks/scaling.json``. ``--quick`` takes small sizes, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scaling_page import MEASURES, write_page
from torch import nn

HERE = Path(__file__).parent
FIGURES = HERE / "scaling.json"
INPUTS, CLASSES = 196, 10
CHUNK = 1000
PARAMETERS = [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000]
LARGEST = {"exact": 3_000, "generalized_sharpness:geometry=linf": 10_000_000, "six": 30_000_000}
EXACT = [800, 1_500, 3_000]
SAMPLES = [100, 1_000, 10_000, 60_000]
PAIRS = [1, 2, 4, 8, 16]
RECORDS = [1_000, 10_000, 100_000, 1_000_000]


def network(parameters: int) -> nn.Sequential:
    """Three layers with two equal widths and about so many parameters."""
    width = max(4, round(((INPUTS + CLASSES) ** 2 / 4 + parameters) ** 0.5 - (INPUTS + CLASSES) / 2))
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(INPUTS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, CLASSES))
    )


def peak() -> int:
    """The peak resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one_process(what: str, parameters: int, samples: int, k: int) -> None:
    """Measure in this process, and print the figures as JSON."""
    import edgescope as es

    torch.set_num_threads(1)
    model = network(parameters)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(samples, INPUTS, generator=generator)
    targets = torch.randint(CLASSES, (samples,), generator=generator)
    options: dict[str, Any] = {"threads": 1} | ({"chunk": CHUNK} if samples > CHUNK else {})
    objective = es.Objective(model, es.supervised(nn.functional.cross_entropy), (inputs, targets), **options)
    size = objective.size

    def gradient() -> float:
        start = time.process_time()
        for part in range(0, samples, CHUNK):
            share = slice(part, part + CHUNK)
            nn.functional.cross_entropy(model(inputs[share]), targets[share], reduction="sum").backward()
        took = time.process_time() - start
        for parameter in model.parameters():
            parameter.grad = None
        return took

    gradient()
    base = [gradient() for _ in range(3)]
    few = es.Objective(network(200), es.supervised(nn.functional.cross_entropy), (inputs[:20], targets[:20]))
    _take(es, what, few, min(k, 2))  # what is imported once, and nothing else, is not counted
    es.forget_choices()
    before = peak()
    start = time.process_time()
    _take(es, what, objective, k)
    took = time.process_time() - start
    held = peak() - before
    base += [gradient() for _ in range(3)]
    one = statistics.median(base)
    found = {"what": what, "parameters": size, "samples": samples, "k": k, "gradients": took / one}
    print(json.dumps(found | {"floats": held / 4 / size, "seconds": took, "products": objective.spent.products}))


def _take(es: Any, what: str, objective: Any, k: int) -> None:
    work: dict[str, Callable[[], Any]] = {
        "gradient": objective.gradient,
        "product": lambda: objective.hvp(torch.ones(objective.size)),
        "sharpness": lambda: es.top_eigenpairs(objective, k=k),
        "six": lambda: es.top_eigenpairs(objective, k=6),
        "exact": lambda: es.spectrum(objective, method="exact"),
        "spectrum": lambda: es.spectrum(objective, method="slq", probes=2, steps=20),
        "directional_smoothness": lambda: _smoothness(es, objective),
    }
    work.get(what, lambda: es.measure(objective, what))()


def _smoothness(es: Any, objective: Any) -> None:
    w = objective.parameters()
    gradient = objective.gradient()
    es.directional_smoothness(objective, w, w - 0.01 * gradient, gradient_w=gradient)


def measured(what: str, parameters: int, samples: int = 256, k: int = 1) -> dict[str, Any]:
    """The figures of one measurement, from a process of its own."""
    command = [sys.executable, __file__, "--process", what, str(parameters), str(samples), str(k)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"scaling: {what} of {parameters} parameters failed: {done.stderr.strip().splitlines()[-1]}")
    print(done.stdout.strip(), flush=True)
    return json.loads(done.stdout)


def of_processes(parameters: int, samples: int) -> list[dict[str, Any]]:
    """Sharpness in one process and in two that share the samples: seconds by the clock."""
    return [json.loads(_torchrun(["--ranks", str(ranks), str(parameters), str(samples)], ranks)) for ranks in (1, 2)]


def _torchrun(arguments: list[str], ranks: int) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run([*command, __file__, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def one_rank(ranks: int, parameters: int, samples: int) -> None:
    import torch.distributed as distributed

    import edgescope as es

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    model = network(parameters)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(samples, INPUTS, generator=generator)[rank::ranks]
    targets = torch.randint(CLASSES, (samples,), generator=generator)[rank::ranks]
    loss = es.supervised(nn.functional.cross_entropy)
    objective = es.Objective(model, loss, (inputs, targets), threads=1, path="kept", group=distributed.group.WORLD)
    objective.hvp(torch.ones(objective.size))
    start = time.perf_counter()
    products = es.top_eigenpairs(objective, k=1).products
    took = time.perf_counter() - start
    if rank == 0:
        print(json.dumps({"ranks": ranks, "parameters": objective.size, "seconds": took / products}))
    distributed.destroy_process_group()


def of_records(lengths: list[int]) -> list[dict[str, Any]]:
    """Writing, opening and reading records of two scalars a step."""
    import tempfile

    from edgescope.measures import Reading
    from edgescope.store import Record

    found = []
    for length in lengths:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "run"
            record = Record.create(place, config={}, command="scaling")
            start = time.perf_counter()
            for step in range(length // 2):
                record.append(step, [Reading("loss", {"": 0.5}), Reading("sharpness", {"": 1.5})])
            append = time.perf_counter() - start
            record.set_status("finished")
            record.close()
            held = sum(path.stat().st_size for path in place.iterdir())
            start = time.perf_counter()
            opened = Record.open(place)
            opening = time.perf_counter() - start
            start = time.perf_counter()
            opened.table()
            table = time.perf_counter() - start
            opened.close()
        found.append({"rows": length, "append": append / length, "open": opening, "table": table, "bytes": held})
        print(json.dumps(found[-1]), flush=True)
    return found


def measure_all(quick: bool, largest: int) -> dict[str, Any]:
    sizes = [2_000, 8_000] if quick else [size for size in PARAMETERS if size <= largest]
    runs = [
        measured(what, size)
        for what in MEASURES
        for size in (EXACT if what == "exact" and not quick else sizes)
        if size <= LARGEST.get(what, size)
    ]
    samples = [50, 100] if quick else SAMPLES
    mid = 2_000 if quick else 100_000
    return {
        "parameters": runs,
        "samples": [
            measured(what, mid, count)
            for what in ("gradient", "product", "sharpness", "hessian_trace")
            for count in samples
        ],
        "pairs": [measured("sharpness", mid if quick else 1_000_000, 256, k) for k in ([1, 2] if quick else PAIRS)],
        "processes": of_processes(mid, 200 if quick else 20_000),
        "records": of_records([100, 200] if quick else RECORDS),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    options.add_argument("--largest", type=int, default=PARAMETERS[-1], help="the largest number of parameters")
    options.add_argument("--page", action="store_true", help="write the page again from the stored figures")
    options.add_argument("--process", nargs=4, help=argparse.SUPPRESS)
    options.add_argument("--ranks", nargs=3, type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.process:
        what, *numbers = given.process
        one_process(what, *(int(number) for number in numbers))
        return
    if given.ranks:
        one_rank(*given.ranks)
        return
    if given.page:
        write_page(json.loads(FIGURES.read_text(encoding="utf-8")))
        return
    found = measure_all(given.quick, given.largest)
    if not given.quick:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        write_page(found)


if __name__ == "__main__":
    main()
