"""Sweeps of training runs: grids of configurations, batched training, and learning rates from text."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from joblib import cpu_count

from edgescope.errors import InputError, MemoryBudgetError, UnknownNameError
from edgescope.options import LARGEST, SMALLEST, shown
from edgescope.progress import Progress
from edgescope.short_errors import short_errors
from edgescope.store import Record
from edgescope.store.lock import RunLock
from edgescope.store.record import FILE
from edgescope.sweep.outcomes import Outcomes
from edgescope.sweep.owner import owned
from edgescope.sweep.run_tasks import run_tasks
from edgescope.sweep.task import Outcome, Tagged, Task, read_json, write_json
from edgescope.training import RunConfig, train
from edgescope.training.batched_training import grouped, speedup, train_batched
from edgescope.training.config import check_run

Batched = Literal["auto", "always", "never"]

WORTH_IT: Final = 1.2
"""The smallest speed-up for which runs are batched, or split into more batches."""

CHOSEN: Final = "batched.json"

MOST_RATES: Final = 10_000
"""The largest number of learning rates of a sweep."""


@dataclass(frozen=True)
class TrainTask(Tagged):
    """One training run as a task of a sweep. ``cost`` is its estimated duration in any unit."""

    name: str
    config: RunConfig
    cost: float

    def run(self, folder: Path, progress: Progress) -> None:
        run_training(self.config, folder, progress, self.tags)


def run_training(
    config: RunConfig,
    folder: Path,
    progress: Progress,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Train a run, continuing an earlier call in this folder."""
    resume = (folder / FILE).exists()
    if train(config, folder, progress=progress, resume=resume, tags=tags).status == "interrupted":
        raise KeyboardInterrupt  # the run has kept its state; the sweep stops too


@short_errors
def grid(base: RunConfig, **values: Sequence[Any]) -> dict[str, RunConfig]:
    """``base`` with every combination of ``values``, by names such as ``"lr0.1-seed2"``: the first varies slowest.

    ``grid(base, lr=[0.05, 0.1], seed=range(3))`` are six runs. Any mapping from names to configurations can be run.
    Raises :class:`InputError` for an option that a run does not have, one without values, or with a value twice.
    """
    check_run(base)
    known = {field.name for field in dataclasses.fields(base)}
    for option, listed in values.items():
        if option not in known:
            raise UnknownNameError(f"a run has no option '{option}'", expected=f"one of {', '.join(sorted(known))}")
        if isinstance(listed, str) or not len(listed) or len({str(value) for value in listed}) < len(listed):
            raise InputError(f"{option} = {listed!r} in a grid", expected="a list of values, each once")
    runs = {}
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        name = "-".join(f"{option}{_short(value)}" for option, value in chosen.items()) or "run"
        runs[name] = dataclasses.replace(base, **chosen)
    return runs


@short_errors
def run(
    runs: Mapping[str, RunConfig],
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    batched: Batched = "auto",
    progress: Progress | None = None,
    modules: Sequence[str] = (),
    owner: RunLock | None = None,
) -> Outcomes:
    """Train ``runs``, each with its record in ``out/runs/<name>``, as :func:`run_tasks` does; return outcomes by name.

    Runs that differ only in learning rate, seed, momentum and weight decay are trained in one batch, or in several at
    the same time, if a short probe finds that this is faster than one by one in as many jobs as there are cores
    (``batched="auto"``). ``info["batched"]`` of the record then has the number of runs in the batch and the speed-up.
    Their readings equal those of separate runs up to rounding. ``"never"`` and ``"always"`` skip the probe. A
    ``resume`` keeps the choice.
    """
    for config in runs.values():
        check_run(config)
    with owned(out, owner) as held:
        bundles = [] if batched == "never" else _bundled(runs, Path(out), batched, 1 if cluster else jobs)
        in_batches = {name for bundle in bundles for name, _ in bundle.runs}
        single = {name: config for name, config in runs.items() if name not in in_batches}
        tasks: list[Task] = [
            *bundles,
            *(TrainTask(name, config, float(config.steps)) for name, config in single.items()),
        ]
        ended = run_tasks(
            tasks, out, jobs=jobs, resume=resume, progress=progress, modules=modules, cluster=cluster, owner=held
        )
    outcomes = {outcome.name: outcome for outcome in ended}
    for bundle in bundles:
        outcomes |= bundle.outcomes(outcomes.pop(bundle.name))
    return Outcomes({name: outcomes[name] for name in runs})


@dataclass(frozen=True)
class BatchedTask(Tagged):
    """Runs of one architecture, trained in one batch; their records are in folders next to that of the task."""

    name: str
    runs: tuple[tuple[str, RunConfig], ...]
    speedup: float | None
    cost: float

    def run(self, folder: Path, progress: Progress) -> None:
        info = {"batched": {"runs": len(self.runs), "faster": self.speedup}}
        train_batched(dict(self.runs), self._folders(folder), folder, progress, info, self.tags)

    def outcomes(self, whole: Outcome) -> dict[str, Outcome]:
        """The outcome of each run, given the outcome of the batch."""
        found = {}
        for name, folder in self._folders(whole.folder).items():
            status, error = whole.status, whole.error
            if (folder / FILE).exists():
                with Record.open(folder) as record:
                    if record.status in ("finished", "diverged"):
                        status, error = record.status if status != "skipped" else status, None
            found[name] = Outcome(name, folder, status, whole.seconds / len(self.runs), error)
        return found

    def _folders(self, folder: Path) -> dict[str, Path]:
        return {name: folder.parent / name for name, _ in self.runs}


def _bundled(runs: Mapping[str, RunConfig], out: Path, batched: Batched, jobs: int) -> list[BatchedTask]:
    """The batches: as chosen before in this folder, or as the probe finds now."""
    chosen: Any = read_json(out / CHOSEN).get("bundles")
    if not _are_bundles(chosen):
        concurrent = min(jobs, cpu_count())
        chosen = []
        for group in grouped(runs):
            try:
                pieces, faster = _stacks(group, concurrent, batched)
            except (InputError, MemoryBudgetError):  # cannot be stacked, or not in this memory
                continue
            chosen += [{"runs": list(piece), "faster": faster} for piece in pieces]
        write_json(out / CHOSEN, {"bundles": chosen})
    return [
        BatchedTask(
            f"batched-{number}",
            tuple((name, runs[name]) for name in bundle["runs"]),
            bundle["faster"],
            float(sum(runs[name].steps for name in bundle["runs"])),
        )
        for number, bundle in enumerate(chosen, 1)
        if all(name in runs for name in bundle["runs"])
    ]


def _stacks(
    group: dict[str, RunConfig], concurrent: int, batched: Batched
) -> tuple[list[dict[str, RunConfig]], float | None]:
    """The batches into which a group is divided for the shortest total time, and the speed-up over one by one.

    ``concurrent`` batches are trained at the same time. Returns no batches if the speed-up is too small, and prefers
    fewer batches: a step is so cheap in a large batch that the other cores may stay idle, and every further process
    takes time to start.
    """
    max_batches = min(concurrent, len(group) // 2)  # of two runs at least
    if batched == "always":
        return _split(group, max_batches), None
    best: tuple[list[dict[str, RunConfig]], float] = [], 1.0
    for count in sorted({1, max(1, max_batches // 2), max_batches}):
        pieces = _split(group, count)
        largest = pieces[0]
        one_by_one = math.ceil(len(group) / concurrent)  # in units of the time of one run
        faster = one_by_one * speedup(largest) / len(largest)
        if faster > WORTH_IT * best[1]:
            best = pieces, faster
    return best


def _split(group: dict[str, RunConfig], count: int) -> list[dict[str, RunConfig]]:
    return [dict(list(group.items())[start::count]) for start in range(count)]


def _are_bundles(chosen: Any) -> bool:
    """Whether a file from an earlier call lists batches and their speed-ups."""
    return isinstance(chosen, list) and all(
        isinstance(bundle, dict)
        and isinstance(bundle.get("runs"), list)
        and all(isinstance(name, str) for name in bundle["runs"])
        and isinstance(bundle.get("faster"), int | float | None)
        for bundle in chosen
    )


def rates(text: str) -> list[float]:
    """Learning rates from text: ``"0.01,0.03,0.1"``, or ``"1e-3:1:25log"`` for 25 from 1e-3 to 1.

    They are spaced evenly on a logarithmic scale and rounded to four digits; those of ``"0.1:0.5:5"`` are spaced
    linearly. Raises :class:`InputError` for anything else, for rates that are not positive and finite, for more than
    10,000, and for duplicates.
    """
    match = re.fullmatch(r"([^:,]+):([^:,]+):(\d+)(log|lin)?", text.strip())
    try:
        if match is None:
            chosen = [float(piece) for piece in text.split(",")]
        else:
            low, high, count = float(match[1]), float(match[2]), int(match[3])
            positive = 0 < low < high < math.inf and 2 <= count <= MOST_RATES
            spaced = np.geomspace if match[4] == "log" else np.linspace
            chosen = [float(f"{lr:.4g}") for lr in spaced(low, high, count)] if positive else []
    except ValueError:
        chosen = []
    if not chosen or not all(SMALLEST <= lr <= LARGEST for lr in chosen) or len(set(chosen)) < len(chosen):
        raise InputError(
            f"learning rates {shown(text)}",
            expected="positive numbers such as 0.01,0.1 or a range such as 1e-3:1:25log",
        )
    return sorted(chosen)


def _short(value: Any) -> str:
    """A value as a part of a folder's name."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[/\\:\0]+", "_", text)
