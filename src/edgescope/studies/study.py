"""What a study is: runs, the claims that they test, and the figures that show them; and how one is carried out."""

from __future__ import annotations

import json
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl

from edgescope.errors import InputError, RecordError
from edgescope.figures import Figure
from edgescope.report import Finding, write_report
from edgescope.store import Record
from edgescope.store.database import faults
from edgescope.sweep import Outcome, Task, check_cluster, run_tasks
from edgescope.sweep import TrainTask as TrainTask
from edgescope.sweep import carry_out as carry_out

Preset = Literal["quick", "full"]
Progress = Callable[[float, str, float | None], None]

DESCRIPTION = "study.json"


class Study(ABC):
    """A set of runs with the claims that they test. A new one is a file, and one line in ``studies/__init__``."""

    name: ClassVar[str]
    title: ClassVar[str]
    abstract: ClassVar[str]
    paper: ClassVar[str]

    @property
    def spec(self) -> str:
        """What builds it again: its name, and the options that were given, if it is a dataclass that has any."""
        options: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        given = ",".join(f"{f.name}={v}" for f in options if (v := getattr(self, f.name)) != f.default)
        return f"{self.name}:{given}" if given else self.name

    @abstractmethod
    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        """What has to be run. Every task resumes in its own folder."""

    def records(self, tasks: Sequence[Task], folder: Path) -> dict[str, Path]:
        """Where in ``folder`` the tasks leave records, by the names that findings and figures know them by.

        One for each task, in its own folder; a study whose task carries out several runs together says where they are.
        """
        return {task.name: folder / task.name for task in tasks}

    @abstractmethod
    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        """A verdict on every claim, from the records of the runs that left one (failed ones may be missing)."""

    @abstractmethod
    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        """The pictures of the report, in reading order."""


@dataclass(frozen=True)
class StudyResult:
    """A study carried out: its findings, its report, and how each run ended."""

    findings: list[Finding]
    report: Path
    outcomes: list[Outcome]


def run_study(
    study: Study,
    out: str | os.PathLike[str],
    *,
    preset: Preset = "quick",
    seed: int = 0,
    jobs: int = 1,
    resume: bool = False,
    progress: Progress | None = None,
    modules: Sequence[str] = (),
    cluster: str | None = None,
) -> StudyResult:
    """Run all tasks of a study in ``out/runs`` and write its report to ``out/report.html``.

    ``modules`` are imported by every worker process, so that what they register is known there. ``cluster`` is the
    address of a Dask scheduler whose workers carry out the runs in place of ``jobs`` processes. ``resume`` continues
    what an earlier call left; a study that had ended is only reported anew. Raises
    :class:`RecordError` for a folder that holds something else, and :class:`KeyboardInterrupt` on Ctrl-C, after which
    ``resume`` takes up where it stopped.
    """
    if preset not in ("quick", "full"):
        raise InputError(f"preset '{preset}'", expected="'quick' or 'full'")
    folder = Path(out)
    description: dict[str, Any] = {"study": study.spec, "preset": preset, "seed": seed}
    before = describe(folder)
    if before is not None and not resume:
        raise RecordError(
            f"{folder} already holds a run of study '{before['study']}'", hint="--resume, or another --out"
        )
    if before is not None and {k: before.get(k) for k in description} != description:
        raise RecordError(
            f"{folder} holds study '{before['study']}', preset {before.get('preset')}, seed {before.get('seed')}",
            expected=f"study '{study.spec}', preset {preset}, seed {seed}",
            hint="another --out",
        )
    if cluster is not None:
        check_cluster(cluster)  # before the folder is taken
    tasks = study.tasks(preset, seed)  # which refuses bad options before the folder is taken
    with faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    outcomes = run_tasks(
        tasks,
        folder,
        jobs=jobs,
        resume=resume,
        progress=progress,
        modules=modules,
        cluster=cluster,
    )
    findings, report = report_study(study, folder, outcomes)
    return StudyResult(findings, report, outcomes)


def report_study(study: Study, folder: Path, outcomes: Sequence[Outcome] = ()) -> tuple[list[Finding], Path]:
    """Judge the claims and write the report of the study in ``folder``, from its records alone."""
    described = describe(folder) or {}
    preset, seed = described.get("preset", "quick"), int(described.get("seed", 0))
    with ExitStack() as stack:
        runs = {
            name: stack.enter_context(Record.open(place))
            for name, place in study.records(study.tasks(preset, seed), folder / "runs").items()
            if (place / "record.sqlite").exists()
        }
        if not runs:
            failed = next((o.error for o in outcomes if o.error), "no run left a record")
            raise RecordError(f"study '{study.name}' has nothing to report in {folder} ({failed})")
        findings = study.findings(runs)
        report = write_report(
            folder,
            title=study.title,
            abstract=study.abstract,
            paper=study.paper,
            findings=findings,
            figures=study.figures(runs),
            runs=[run_row(name, record) for name, record in runs.items()],
            cost=total_cost(runs.values()),
            versions=versions_of(next(iter(runs.values()))),
            command=f"edgescope run {shlex.quote(study.spec)} --preset {preset} --seed {seed}",
        )
    return findings, report


def describe(folder: Path) -> dict[str, Any] | None:
    """What study a folder holds, None if none."""
    try:
        found = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "study" in found else None


def run_row(name: str, record: Record) -> dict[str, Any]:
    """What the report's tables say of one run: its configuration, how it ended, and what was spent on it."""
    config, info = record.config, record.info
    measured = info.get("measured", {})
    chosen = ("data", "model", "loss", "optimizer", "lr", "batch", "train", "test", "seed")
    return {
        "run": name,
        **{key: config[key] for key in chosen if config.get(key) is not None},
        "steps": record.last_step,
        "parameters": measured.get("parameters"),
        "mode": measured.get("mode"),
        "precision": measured.get("dtype"),
        "status": record.status,
        **spent(record),
        "seconds": info.get("seconds"),
        **info.get("plan", {}),
    }


def spent(record: Record) -> dict[str, int]:
    """The losses, gradients and products that the measurements of a run asked for."""
    sums = record.costs().select(pl.col("losses", "gradients", "products").sum())
    return {key: int(value) for key, value in sums.row(0, named=True).items()}


def total_cost(records: Iterable[Record]) -> dict[str, Any]:
    """Sums over all runs."""
    kept = list(records)
    each = [spent(record) for record in kept]
    total: dict[str, Any] = {key: sum(one[key] for one in each) for key in ("losses", "gradients", "products")}
    return total | {"seconds of all runs": sum(record.info.get("seconds") or 0.0 for record in kept)}


def versions_of(record: Record) -> dict[str, Any]:
    """The versions and the commit that a run was made with."""
    named = ("edgescope", "torch", "numpy", "python", "platform", "commit", "started")
    return {key: record.info.get(key) for key in named}
