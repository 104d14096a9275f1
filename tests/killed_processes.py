"""What a warm process carries out until it is killed, and what is looked at after a kill. For tests."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from warm_process import serve

from edgescope.claims import Finding
from edgescope.studies import STUDIES, Study
from edgescope.sweep import TrainTask, run_tasks
from edgescope.training import RunConfig

TINY = RunConfig(
    data="digits:train=20,test=10",
    model="mlp:widths=4",
    steps=30,
    every=3,
    measures=("loss", "norms@end"),
    checkpoint_every=5,
    threads=1,
    path="kept",
)


IMPORTED = (
    *("edgescope.cli.report", "edgescope.cli.run", "edgescope.cli.sweep", "edgescope.cli.train"),
    *("edgescope.cli.progress", "edgescope.cli.sweep_report", "edgescope.sweep.processes"),
    "edgescope.report.run_report.pages",
    *("tyro", "sklearn.datasets", "sympy", "pandas", "torch._dynamo", "torch.fx.experimental.proxy_tensor", "cProfile"),
)


@dataclass(frozen=True)
class Tiny(Study):
    """Two runs of a few milliseconds."""

    name: ClassVar[str] = "tiny"
    title: ClassVar[str] = "A tiny study"
    abstract: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    def tasks(self, preset, seed):  # type: ignore[no-untyped-def]
        return [TrainTask(name, TINY, 1.0) for name in ("a", "b")]

    def findings(self, runs):  # type: ignore[no-untyped-def]
        return [Finding("tiny.ends", "it ends", "none", "2 runs", "holds", f"{len(runs)} did")]

    def figures(self, runs):  # type: ignore[no-untyped-def]
        return []


STUDIES.add("tiny", Tiny)


@dataclass(frozen=True)
class Slow:
    """Says by lines "pid count" in its folder how far it is, and goes on from there; 0.3 s in all."""

    name: str
    cost: float = 1.0

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        lines = folder / "lines"
        done = len(lines.read_bytes().splitlines()) if lines.exists() else 0
        for count in range(done, 30):
            time.sleep(0.01)
            with lines.open("ab", buffering=0) as file:
                file.write(f"{os.getpid():08d} {count:04d}\n".encode())
            progress(count / 30, "")


def forked_workers() -> None:
    """Have worker processes forked from a server that has torch imported; they get no more of us than started anew."""
    from joblib.externals.loky.backend import context

    multiprocessing.set_forkserver_preload(["edgescope.sweep.processes", "killed_processes"])
    context.set_start_method("forkserver", force=True)


def invoke(kind: str, arguments: list[str]) -> int:
    if kind == "cli":
        from edgescope.cli import main

        return main(arguments)
    out, count, jobs, forked = arguments
    if forked == "forked":
        forked_workers()
    outcomes = run_tasks([Slow(f"t{i}") for i in range(int(count))], out, jobs=int(jobs), resume=True)
    return sum(outcome.status == "failed" for outcome in outcomes)


if __name__ == "__main__":
    import killed_processes  # what is pickled for workers is looked up there

    serve(killed_processes.invoke, IMPORTED)
