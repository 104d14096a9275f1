"""How a study is carried out: tasks are run, claims judged from their records, and the report written."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from edgescope.atomic import write_file
from edgescope.claims import Finding
from edgescope.description import STUDY
from edgescope.errors import InputError, RecordError
from edgescope.experiments.manifest import read_manifest, write_manifest
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_file import HIGHEST_SEED, describe
from edgescope.experiments.study_run import StudyRun
from edgescope.objective.checks import check_device
from edgescope.options import check_int
from edgescope.progress import Progress
from edgescope.store import Record
from edgescope.store.lock import RunLock
from edgescope.store.record import FILE
from edgescope.studies.study import Study
from edgescope.sweep import Outcome, check_cluster, check_jobs, run_tasks, tasks_on
from edgescope.sweep.owner import owned


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

    ``device`` (cpu, cuda, cuda:1) is where runs train and measure; simulations compute on the CPU. On a cluster it
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
    seed = check_int("a study", "seed", seed, least=0, most=HIGHEST_SEED)
    check_jobs(jobs)
    check_device("a study", device, here=cluster is None)
    with owned(out, owner) as held:
        return _run_owned(study, Path(out), preset, seed, device, jobs, resume, progress, modules, cluster, held)


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
            f"{folder} already contains a run of study '{before['study']}'",
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


@contextmanager
def opened_runs(study: Study, folder: Path) -> Iterator[dict[str, StudyRun]]:
    """The runs of the study in ``folder`` that left a record, by name, open until the context ends."""
    entries = read_manifest(folder)
    if entries is None:  # a folder of an earlier version
        described = describe(folder) or {}
        entries = study.entries(study.tasks(described.get("preset", "quick"), int(described.get("seed", 0))))
    with ExitStack() as stack:
        places = [(entry, folder / "runs" / entry.folder) for entry in entries]
        yield {
            entry.name: StudyRun(entry.name, stack.enter_context(Record.open(place)), entry.tags)
            for entry, place in places
            if (place / FILE).exists()
        }


def report_study(
    study: Study, folder: Path, outcomes: Sequence[Outcome] = (), out: Path | None = None
) -> tuple[list[Finding], Path]:
    """Judge the claims and write the report of the study in ``folder``, from its records alone, there or in ``out``."""
    # Only here: reports draw figures, and what these need takes long to load.
    from edgescope.report import write_report
    from edgescope.report.notes import notes_of
    from edgescope.report.run_report.rows import run_row, total_cost, versions_of

    described = describe(folder) or {}
    preset, seed = described.get("preset", "quick"), int(described.get("seed", 0))
    with opened_runs(study, folder) as runs:
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
