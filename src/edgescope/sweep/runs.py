"""Runs from one configuration: a grid or a list of them, each with its own record, carried out as a sweep."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from edgescope.errors import InputError, UnknownNameError
from edgescope.store import Record
from edgescope.store.database import faults
from edgescope.sweep.run_tasks import run_tasks
from edgescope.sweep.task import Outcome, Task, read_json, write_json
from edgescope.training import RunConfig, train
from edgescope.training.together import grouped, speedup, train_together

Together = Literal["auto", "always", "never"]

WORTH_IT: Final = 1.2
"""Times faster that training together has to be: it also waits for the slowest of its runs."""

CHOSEN: Final = "together.json"


@dataclass(frozen=True)
class TrainTask:
    """One training run as a task of a sweep. ``cost`` is its estimated length in any unit."""

    name: str
    config: RunConfig
    cost: float

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        carry_out(self.config, folder, progress)


def carry_out(config: RunConfig, folder: Path, progress: Callable[[float, str], None]) -> None:
    """Train, from where an earlier call in this folder stopped."""
    resume = (folder / "record.sqlite").exists()
    if train(config, folder, progress=progress, resume=resume).status == "interrupted":
        raise KeyboardInterrupt  # the run has kept its state; the sweep stops too


def grid(base: RunConfig, **values: Sequence[Any]) -> dict[str, RunConfig]:
    """``base`` with every combination of ``values``, by names such as ``"lr0.1-seed2"``: the first varies slowest.

    ``grid(base, lr=[0.05, 0.1], seed=range(3))`` are six runs. A list of runs that is no grid is any such mapping.
    Raises :class:`InputError` for an option that a run does not have, one without values, or with a value twice.
    """
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


def run(
    runs: Mapping[str, RunConfig],
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    together: Together = "auto",
    progress: Callable[[float, str, float | None], None] | None = None,
    modules: Sequence[str] = (),
) -> dict[str, Outcome]:
    """Carry out ``runs``, each with its record in ``out/runs/<name>``, as :func:`run_tasks` does; outcomes by name.

    Runs that differ in learning rate, seed, momentum and weight decay alone are trained together in one batched
    program where a short probe finds that faster (``together="auto"``), which the record says: ``info["together"]`` has
    how many and how much faster than one by one. Their readings equal those of runs by themselves up to rounding.
    ``"never"`` and ``"always"`` leave the probe out. What was chosen holds for a ``resume`` too.
    """
    bundles = [] if together == "never" else _bundled(runs, Path(out), together, 1 if cluster else jobs)
    single = dict(runs)
    tasks: list[Task] = []
    for bundle in bundles:
        tasks.append(bundle)
        for name, _ in bundle.runs:
            del single[name]
    tasks += [TrainTask(name, config, float(config.steps)) for name, config in single.items()]
    ended = run_tasks(tasks, out, jobs=jobs, resume=resume, progress=progress, modules=modules, cluster=cluster)
    outcomes = {outcome.name: outcome for outcome in ended}
    for bundle in bundles:
        outcomes |= bundle.outcomes(outcomes.pop(bundle.name))
    return {name: outcomes[name] for name in runs}


@dataclass(frozen=True)
class TogetherTask:
    """Runs of one architecture, side by side in one batched program; their records lie beside the task's folder."""

    name: str
    runs: tuple[tuple[str, RunConfig], ...]
    speedup: float | None
    cost: float

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        info = {"together": {"runs": len(self.runs), "faster": self.speedup}}
        train_together(dict(self.runs), self._folders(folder), folder, progress, info)

    def outcomes(self, whole: Outcome) -> dict[str, Outcome]:
        """How each of the runs ended, where all together ended as ``whole``."""
        found = {}
        for name, folder in self._folders(whole.folder).items():
            status, error = whole.status, whole.error
            if (folder / "record.sqlite").exists():
                with Record.open(folder) as record:
                    if record.status in ("finished", "diverged"):
                        status, error = record.status if status != "skipped" else status, None
            found[name] = Outcome(name, folder, status, whole.seconds / len(self.runs), error)
        return found

    def _folders(self, folder: Path) -> dict[str, Path]:
        return {name: folder.parent / name for name, _ in self.runs}


def _bundled(runs: Mapping[str, RunConfig], out: Path, together: Together, jobs: int) -> list[TogetherTask]:
    """What is trained together: as chosen before in this folder, or as the probe finds now."""
    chosen = read_json(out / CHOSEN).get("bundles")
    if chosen is None:
        chosen = []
        for group in grouped(runs):
            pieces = [dict(list(group.items())[start::jobs]) for start in range(min(jobs, len(group) // 2))]
            try:
                faster = None if together == "always" else speedup(pieces[0])
            except InputError:  # cannot be stacked
                continue
            if faster is None or faster > WORTH_IT:
                chosen += [{"runs": list(piece), "faster": faster} for piece in pieces]
        with faults(out):
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / CHOSEN, {"bundles": chosen})
    return [
        TogetherTask(
            f"together-{number}",
            tuple((name, runs[name]) for name in bundle["runs"]),
            bundle["faster"],
            float(sum(runs[name].steps for name in bundle["runs"])),
        )
        for number, bundle in enumerate(chosen, 1)
        if all(name in runs for name in bundle["runs"])
    ]


def rates(text: str) -> list[float]:
    """Learning rates from text: ``"0.01,0.03,0.1"``, or ``"1e-3:1:25log"`` for 25 from 1e-3 to 1.

    They are even on a logarithmic scale and rounded to four digits.

    ``"0.1:0.5:5"`` are even on a linear one. Raises :class:`InputError` for anything else, and for rates that are not
    positive and finite.
    """
    match = re.fullmatch(r"([^:,]+):([^:,]+):(\d+)(log|lin)?", text.strip())
    try:
        if match is None:
            chosen = [float(piece) for piece in text.split(",")]
        else:
            low, high, count = float(match[1]), float(match[2]), int(match[3])
            positive = 0 < low < high < math.inf and count >= 2
            spaced = np.geomspace if match[4] == "log" else np.linspace
            chosen = [float(f"{lr:.4g}") for lr in spaced(low, high, count)] if positive else []
    except ValueError:
        chosen = []
    if not chosen or not all(math.isfinite(lr) and lr > 0 for lr in chosen) or len(set(chosen)) < len(chosen):
        raise InputError(
            f"learning rates '{text}'", expected="positive rates such as 0.01,0.1 or a range such as 1e-3:1:25log"
        )
    return sorted(chosen)


def _short(value: Any) -> str:
    """A value as a part of a folder's name."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[/\\:\0]+", "_", text)
