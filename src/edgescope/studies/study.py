"""What a study is: runs, the claims that they test, and the figures that show them; and how one is carried out."""

from __future__ import annotations

import json
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from edgescope.atomic import write_file
from edgescope.claims import Finding
from edgescope.description import STUDY, read_description
from edgescope.errors import InputError, RecordError
from edgescope.figures import Figure
from edgescope.objective.checks import check_device_name, usable_device
from edgescope.options import HIGHEST, check_int
from edgescope.progress import Progress
from edgescope.report import write_report
from edgescope.report.notes import notes_of
from edgescope.report.run_report.rows import run_row, total_cost, versions_of
from edgescope.store import Record
from edgescope.store.lock import RunLock
from edgescope.store.record import FILE
from edgescope.studies.manifest import Entry, read_manifest, tags_of, write_manifest
from edgescope.studies.study_run import Runs, StudyRun
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Outcome, Task, check_cluster, check_jobs, run_tasks, tasks_on
from edgescope.sweep import TrainTask as TrainTask
from edgescope.sweep import run_training as run_training
from edgescope.sweep.owner import owned

Preset = Literal["quick", "full", "paper"]


class Study(ABC):
    """A set of runs with the claims that they test. A new one is a file, and one line in ``studies/__init__``."""

    name: ClassVar[str]
    title: ClassVar[str]
    abstract: ClassVar[str]
    paper: ClassVar[str]
    topics: ClassVar[Sequence[Topic]] = ()
    """The claims, in reading order, under the headings of the report."""
    unknown: ClassVar[tuple[str, ...]] = ()
    """What is known and what is not known of the paper's own runs, which the preset "paper" repeats."""

    @property
    def spec(self) -> str:
        """What builds it again: its name, and the options that were given, if it is a dataclass that has any."""
        options: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        given = ",".join(f"{f.name}={v}" for f in options if (v := getattr(self, f.name)) != f.default)
        return f"{self.name}:{given}" if given else self.name

    @abstractmethod
    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        """What has to be run. Every task resumes in its own folder."""

    def entries(self, tasks: Sequence[Task]) -> list[Entry]:
        """The runs that the tasks leave records of, with their folders and tags.

        One for each task, in its own folder; a study whose task carries out several runs at once says where they are.
        """
        return [Entry(task.name, task.name, tags_of(task)) for task in tasks]

    def findings(self, runs: Runs) -> list[Finding]:
        """A verdict on every claim, from the runs that left a record (failed ones may be missing)."""
        return [tested.finding(runs) for topic in self.topics for tested in topic.claims]

    @abstractmethod
    def figures(self, runs: Runs) -> list[Figure]:
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
    device: str | None = None,
    jobs: int = 1,
    resume: bool = False,
    progress: Progress | None = None,
    modules: Sequence[str] = (),
    cluster: str | None = None,
    owner: RunLock | None = None,
) -> StudyResult:
    """Run all tasks of a study in ``out/runs`` and write its report to ``out/report.html``.

    ``device`` (cpu, cuda, cuda:1, mps) is where runs train and measure; simulations compute on the CPU. On a cluster it
    is a device of the workers. ``resume`` does not compare it: a study may be continued on another device, where
    unfinished runs go on with other rounding.
    ``modules`` are imported by every worker process, so that what they register is known there. ``cluster`` is the
    address of a Dask scheduler whose workers carry out the runs in place of ``jobs`` processes. ``resume`` continues
    what an earlier call left; a study that had ended is only reported anew. ``owner`` is the lock of ``out`` where the
    caller has taken it already. Raises :class:`RecordError` for a folder that holds something else, or that another
    process owns, which it names; and :class:`KeyboardInterrupt` on Ctrl-C, after which
    ``resume`` takes up where it stopped.
    """
    if preset not in get_args(Preset):
        raise InputError(f"preset '{preset}'", expected=f"one of {', '.join(get_args(Preset))}")
    seed = check_int("a study", "seed", seed, least=0, most=HIGHEST // 2)  # runs count on from there
    check_jobs(jobs)
    check_device(device, cluster)
    with owned(out, owner) as held:
        return _run_owned(study, Path(out), preset, seed, device, jobs, resume, progress, modules, cluster, held)


def check_device(device: str | None, cluster: str | None = None) -> None:
    """Raise :class:`InputError` for a device that is none, or that is not here where the runs are to be done here."""
    if device is not None:
        check_device_name("a study", device)
        if cluster is None:
            usable_device(device)


def _run_owned(
    study: Study,
    folder: Path,
    preset: Preset,
    seed: int,
    device: str | None,
    jobs: int,
    resume: bool,
    progress: Progress | None,
    modules: Sequence[str],
    cluster: str | None,
    owner: RunLock,
) -> StudyResult:
    description: dict[str, Any] = {"study": study.spec, "preset": preset, "seed": seed}
    before = describe(folder)
    if before is not None and not resume:
        raise RecordError(
            f"{folder} already holds a run of study '{before['study']}'",
            hint="resume=True (--resume on the command line), or another folder",
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
    if before is None:
        write_file(folder / STUDY, json.dumps(description))
    write_manifest(folder, study.entries(tasks))
    outcomes = run_tasks(
        tasks if device is None else tasks_on(tasks, device),
        folder,
        jobs=jobs,
        resume=resume,
        progress=progress,
        modules=modules,
        cluster=cluster,
        owner=owner,
    )
    findings, report = report_study(study, folder, outcomes)
    return StudyResult(findings, report, outcomes)


def report_study(
    study: Study, folder: Path, outcomes: Sequence[Outcome] = (), out: Path | None = None
) -> tuple[list[Finding], Path]:
    """Judge the claims and write the report of the study in ``folder``, from its records alone, there or in ``out``."""
    described = describe(folder) or {}
    preset, seed = described.get("preset", "quick"), int(described.get("seed", 0))
    entries = read_manifest(folder)
    if entries is None:  # a folder of an earlier version
        entries = study.entries(study.tasks(preset, seed))
    with ExitStack() as stack:
        runs = {
            entry.name: StudyRun(
                entry.name, stack.enter_context(Record.open(folder / "runs" / entry.folder)), entry.tags
            )
            for entry in entries
            if (folder / "runs" / entry.folder / FILE).exists()
        }
        if not runs:
            failed = next((o.error for o in outcomes if o.error), "no run left a record")
            raise RecordError(f"study '{study.name}' has nothing to report in {folder} ({failed})")
        findings = study.findings(runs)
        rows = [run_row(name, run.record) for name, run in runs.items()]
        report = write_report(
            out or folder,
            title=study.title,
            abstract=study.abstract,
            paper=study.paper,
            findings=findings,
            figures=study.figures(runs),
            runs=rows,
            cost=total_cost(rows),
            versions=versions_of(next(iter(runs.values())).record),
            command=f"edgescope run {shlex.quote(study.spec)} --preset {preset} --seed {seed}",
            notes=notes_of({name: run.record for name, run in runs.items()}),
            topics={topic.title: [tested.claim.id for tested in topic.claims] for topic in study.topics},
        )
    return findings, report


def describe(folder: Path) -> dict[str, Any] | None:
    """What study a folder holds, None if none.

    Raises :class:`RecordError` where it says so in a file that is damaged, or with values of other types.
    """
    path = Path(folder) / STUDY
    found = read_description(path)
    return _checked(found, path) if found is not None and "study" in found else None


def _checked(description: dict[str, Any], path: Path) -> dict[str, Any]:
    """A description of a study whose parts are of the types that they are written with."""
    wrong = f"{path} is not that of a study"
    if type(description["study"]) is not str:
        raise RecordError(f"{wrong}: study is {_kind(description['study'])}", expected="a study's name, with options")
    if description.get("preset", "quick") not in get_args(Preset):
        expected = f"one of {', '.join(get_args(Preset))}"
        raise RecordError(f"{wrong}: preset is {_kind(description['preset'])}", expected=expected)
    seed = description.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= HIGHEST // 2:
        raise RecordError(f"{wrong}: seed is {_kind(seed)}", expected=f"a whole number from 0 to {HIGHEST // 2}")
    return description


def _kind(value: Any) -> str:
    """A value of a JSON file for an error: itself where it is short, else what it is."""
    kinds = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    text = repr(value) if type(value) in (str, float, bool, type(None)) else ""
    if type(value) is int and abs(value) < 10**20:
        text = str(value)
    return text if 0 < len(text) <= 40 else kinds[type(value)]
