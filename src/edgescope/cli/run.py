"""``edgescope run``: run a study and write its report."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.failure import FAILED, INTERRUPTED
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.description import is_taken, lost_description
from edgescope.errors import InputError, RecordError
from edgescope.printable import shell_quoted

if TYPE_CHECKING:
    from edgescope.studies import Study, StudyResult


@dataclass(frozen=True)
class Run(Command):
    """Run a study: train its runs, test each of its claims, and write the report.

    After Ctrl-C the study can be continued with --resume. The exit code is 0 when the study was completed, whatever
    its verdicts.

    Examples:
      edgescope run edge
      edgescope run edge --preset full --jobs 4 --out runs/edge
      edgescope run edge --preset full --jobs 4 --out runs/edge --resume
      edgescope run edge --preset full --cluster tcp://127.0.0.1:8786
      edgescope run edge --preset paper --dry-run
      edgescope run edge --preset paper --device cuda --jobs 1
    """

    study: Positional[str]
    """name of the study (see 'edgescope list studies')"""
    preset: Literal["quick", "full", "paper"] = "quick"
    """quick: a few minutes; full: the settings for publication; paper: networks and data of the paper, many hours"""
    seed: int = 0
    """random seed"""
    device: Annotated[str | None, NoDefault] = None
    """where to train and to measure: cpu, cuda, cuda:1; by default the CPU. With cuda and several jobs, runs
    are spread over all cards. Simulations compute on the CPU"""
    dry_run: Annotated[bool, NoDefault] = False
    """print the runs with their steps, gradients, memory and estimated time; nothing is run, written or downloaded"""
    json: Annotated[bool, NoDefault] = False
    """with --dry-run: print JSON"""
    jobs: Annotated[int | None, NoDefault] = None
    """number of runs at the same time; by default the number of cores"""
    cluster: Annotated[str | None, NoDefault] = None
    """address of a running Dask scheduler; its workers then do the runs"""
    out: Annotated[Path | None, NoDefault] = None
    """output folder for runs and report; by default runs/STUDY-PRESET"""
    resume: Annotated[bool, NoDefault] = False
    """continue an earlier call with this output folder"""
    module: Modules = ()

    def run(self) -> int:
        from joblib import cpu_count

        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.progress import ProgressLine
        from edgescope.studies import STUDIES, run_study
        from edgescope.sweep.owner import owned

        study = STUDIES.build(self.study)
        name = self.study.partition(":")[0]
        out = self.out or Path("runs") / f"{name}-{self.preset}"
        jobs = cpu_count() if self.jobs is None else self.jobs
        if self.dry_run:
            return self._plan(study, jobs)
        if self.json:
            raise InputError("--json without --dry-run", hint="--dry-run")
        if out.exists() and not out.is_dir():
            raise RecordError(f"{out} is a file", expected="a folder", hint="another --out")
        keep_freed_memory()
        try:
            with owned(out) as owner, ProgressLine(name) as line:
                self._check_folder(out)
                result = run_study(
                    study,
                    out,
                    preset=self.preset,
                    seed=self.seed,
                    device=self.device,
                    jobs=jobs,
                    resume=self.resume,
                    progress=line,
                    modules=self.module,
                    cluster=self.cluster,
                    owner=owner,
                )
        except KeyboardInterrupt:
            say(
                "interrupted; all measurements so far are kept. To continue:",
                f"  {self._again(out, jobs)}",
                file=sys.stderr,
            )
            return INTERRUPTED
        return _tell(result, self._again(out, jobs))

    def _plan(self, study: Study, jobs: int) -> int:
        from edgescope.cli.plan import plan_as_dict, print_plan
        from edgescope.cli.progress import ProgressLine
        from edgescope.studies.dry_run import plan_study
        from edgescope.sweep import check_jobs

        check_jobs(jobs)
        with ProgressLine("dry run") as line:
            plan = plan_study(study, preset=self.preset, seed=self.seed, device=self.device, progress=line)
        if self.json:
            say(json.dumps(plan_as_dict(plan, jobs)))
        else:
            print_plan(plan, jobs, Terminal())
        return 0

    def _check_folder(self, out: Path) -> None:
        from edgescope.studies import describe

        if is_taken(out):
            if not self.resume:
                raise RecordError(f"{out} is not empty", hint="--resume to continue there, or another --out")
            if describe(out) is None and not lost_description(out):
                raise RecordError(f"{out} contains no study that can be resumed", hint="another --out")

    def _again(self, out: Path, jobs: int) -> str:
        where = {"jobs": jobs} if self.cluster is None else {"cluster": self.cluster}
        options: dict[str, object] = {"preset": self.preset, "seed": self.seed, **where, "out": out}
        words = ["edgescope", "run", self.study]
        if self.device is not None:
            options["device"] = self.device
        words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words += [word for name in self.module for word in ("--module", name)]
        return shell_quoted([*words, "--resume"])


def _tell(result: StudyResult, again: str) -> int:
    from edgescope.report import verdict_table

    Terminal().print(verdict_table(result.findings))
    say(f"report: {result.report}")
    failed = [outcome for outcome in result.outcomes if outcome.status == "failed"]
    for outcome in failed:
        say(f"edgescope: run '{outcome.name}' failed ({outcome.error}); see {outcome.folder}", file=sys.stderr)
    if failed:
        say(
            f"{len(failed)} of {len(result.outcomes)} runs failed and are missing from the verdicts. To retry them:",
            file=sys.stderr,
        )
        say(f"  {again}", file=sys.stderr)
    return FAILED if failed else 0
