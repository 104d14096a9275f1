"""``edgescope run``: a study, from its runs to its report."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from tyro.conf import Positional

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.failure import FAILED, INTERRUPTED
from edgescope.errors import RecordError

if TYPE_CHECKING:
    from edgescope.studies.study import StudyResult


@dataclass(frozen=True)
class Run(Command):
    """Carry out a study: its runs, its verdicts claim by claim, and its report.

    Ctrl-C leaves what can be resumed. The exit code is 0 when the study was completed, whatever its verdicts.

    Examples:
      edgescope run edge
      edgescope run edge --preset full --jobs 4 --out runs/edge
      edgescope run edge --preset full --jobs 4 --out runs/edge --resume
      edgescope run edge --preset full --cluster tcp://127.0.0.1:8786
    """

    study: Positional[str]
    """the name of the study; 'edgescope list studies' shows them"""
    preset: Literal["quick", "full"] = "quick"
    """quick takes minutes, full is what the claims deserve"""
    seed: int = 0
    """of all that is drawn at random"""
    jobs: Annotated[int | None, NoDefault] = None
    """runs side by side; by default as many as there are cores"""
    cluster: Annotated[str | None, NoDefault] = None
    """address of a running Dask scheduler, whose workers carry out the runs instead"""
    out: Annotated[Path | None, NoDefault] = None
    """folder for runs and report; by default runs/STUDY-PRESET"""
    resume: Annotated[bool, NoDefault] = False
    """continue what an earlier call left in that folder"""
    module: Modules = ()

    def run(self) -> int:
        from joblib import cpu_count

        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.progress import ProgressLine
        from edgescope.studies import STUDIES
        from edgescope.studies.study import describe, run_study

        study = STUDIES.build(self.study)
        name = self.study.partition(":")[0]
        out = self.out or Path("runs") / f"{name}-{self.preset}"
        jobs = cpu_count() if self.jobs is None else self.jobs
        if out.exists() and not out.is_dir():
            raise RecordError(f"{out} is a file", expected="a folder", hint="another --out")
        if out.exists() and any(out.iterdir()):
            if not self.resume:
                raise RecordError(f"{out} is not empty", hint="--resume to continue there, or another --out")
            if describe(out) is None:
                raise RecordError(f"{out} holds no study that could be resumed", hint="another --out")
        keep_freed_memory()
        try:
            with ProgressLine(name) as line:
                result = run_study(
                    study,
                    out,
                    preset=self.preset,
                    seed=self.seed,
                    jobs=jobs,
                    resume=self.resume,
                    progress=line,
                    modules=self.module,
                    cluster=self.cluster,
                )
        except KeyboardInterrupt:
            print(f"interrupted; what was measured is kept. To continue:\n  {self._again(out, jobs)}", file=sys.stderr)
            return INTERRUPTED
        return _tell(result, self._again(out, jobs))

    def _again(self, out: Path, jobs: int) -> str:
        where = {"jobs": jobs} if self.cluster is None else {"cluster": self.cluster}
        options: dict[str, object] = {"preset": self.preset, "seed": self.seed, **where, "out": out}
        words = ["edgescope", "run", self.study]
        words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words += [word for name in self.module for word in ("--module", name)]
        return shlex.join([*words, "--resume"])


def _tell(result: StudyResult, again: str) -> int:
    from edgescope.report import verdict_table

    Console(highlight=False).print(verdict_table(result.findings))
    print(f"report: {result.report}")
    failed = [outcome for outcome in result.outcomes if outcome.status == "failed"]
    for outcome in failed:
        print(f"edgescope: run '{outcome.name}' failed ({outcome.error}); see {outcome.folder}", file=sys.stderr)
    if failed:
        print(f"the verdicts lack {len(failed)} of {len(result.outcomes)} runs. To try them again:", file=sys.stderr)
        print(f"  {again}", file=sys.stderr)
    return FAILED if failed else 0
