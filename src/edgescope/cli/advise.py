"""``edgescope advise``: the written diagnosis of a run, of several, or of a problem before training."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.padding import Padding
from rich.text import Text
from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.errors import InputError, RecordError
from edgescope.options import check_float, check_int, check_seed

if TYPE_CHECKING:
    from edgescope.advice import Section

FOLDER = "advice"


@dataclass(frozen=True)
class Advise(Command):
    """Tell what regime a run is in, which learning rates are stable, and what to try.

    Of one run: its regime at the end and why, the critical learning rate and its range along the run, where other
    optimizers are unstable at this sharpness, and whether weight decay holds the network in a trap. Of several runs,
    such as a sweep: their regimes, the learning rate that tests best, and whether sharpness or norm go with the test
    loss. Nothing is trained or measured. The text and the figures are also written to DIR/advice/report.html.

    Of a function, as for 'edgescope lr', before training: the learning rate, whether warm-up is needed, which layer
    limits the steps, and where optimizers are unstable at the start. This takes about a minute; nothing is written.

    Examples:
      edgescope advise runs/a
      edgescope advise runs/sweep-mymodule-make_run --json
      edgescope advise mymodule:make_run --optimizer adamw
    """

    target: Annotated[Positional[str], arg(metavar="DIR|MODULE:FUNCTION")]
    """folder of a run, of a sweep, or of several runs; or function that returns (model, loss_fn, data)"""
    optimizer: str = "sgd"
    """of a function: optimizer by name with options"""
    batch: Annotated[int | None, NoDefault] = None
    """of a function: mini-batch size, if the data are one batch; by default that batch is taken whole"""
    seconds: float = 60.0
    """of a function: time that the learning rate finder may take"""
    seed: int = 0
    """of a function: random seed"""
    out: Annotated[Path | None, NoDefault] = None
    """output folder of the page; by default DIR/advice"""
    json: Annotated[bool, NoDefault] = False
    """print the diagnosis as JSON; no page is written"""
    module: Modules = ()

    def run(self) -> int:
        folder = Path(self.target)
        if not folder.is_dir():
            if ":" in self.target:
                return self._of_function()
            raise RecordError(
                f"there is no folder {folder}", expected="the folder of a run, or of several runs; or module:function"
            )
        return self._of_folder(folder)

    def _of_folder(self, folder: Path) -> int:
        from edgescope.advice import advise_run, advise_runs, as_data
        from edgescope.printable import printable_names
        from edgescope.report.run_report import report_runs
        from edgescope.store import Record
        from edgescope.store.runs_below import runs_below

        below = runs_below(folder)
        if not below:
            raise RecordError(f"{folder} contains no record", expected="the folder of a run, or of several runs")
        names = printable_names(name or folder.resolve().name for name in below)
        places = dict(zip(names, below.values(), strict=True))
        if len(places) == 1:
            with Record.open(places[names[0]]) as record:
                sections = advise_run(record)
        else:
            sections = advise_runs(places)
        if self.json:
            say(json.dumps(as_data(sections)))
            return 0
        show_sections(sections)
        title = "Diagnosis of a training run" if len(places) == 1 else f"Diagnosis of {len(places)} training runs"
        page = report_runs(
            folder,
            self.out or folder / FOLDER,
            title=title,
            abstract="\n\n".join(f"{section.question} {section.text}" for section in sections),
            command=f"edgescope advise {shlex.quote(str(folder))}",
        )
        say(f"report: {page}")
        return 0

    def _of_function(self) -> int:
        from edgescope.advice import advise_problem, as_data
        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.progress import ProgressLine
        from edgescope.linalg import top_eigenpairs
        from edgescope.objective import Objective
        from edgescope.objective.checks import as_loss
        from edgescope.training.own import made_by
        from edgescope.tuning import find_lr
        from edgescope.user_code import wrap_user_errors

        if self.batch is not None:
            check_int("advise", "--batch", self.batch, least=1)
        check_float("advise", "--seconds", self.seconds, above=0)
        check_seed("advise", self.seed, "--seed")
        if self.out is not None:
            raise InputError("--out with a function", expected="the folder of a run, whose page is written there")
        keep_freed_memory()
        made = made_by(self.target, self.seed)
        with ProgressLine("advice", Terminal(stderr=True)) as line:
            found = find_lr(
                made.model,
                made.loss_fn,
                made.data,
                optimizer=self.optimizer,
                batch=self.batch,
                seconds=self.seconds,
                progress=line,
            )
        with wrap_user_errors(f"the model or loss that '{self.target}' returns"):
            objective = Objective(made.model, as_loss(made.loss_fn), made.data)
            sections = advise_problem(found, top_eigenpairs(objective, 1, seed=self.seed))
        if self.json:
            say(json.dumps(as_data(sections)))
        else:
            show_sections(sections)
        return 0


def show_sections(sections: tuple[Section, ...]) -> None:
    """Print each question and its answer."""
    console = Terminal()
    for section in sections:
        console.print(section.question, style="bold", markup=False)
        for reason in section.reasons:
            console.print(Padding(Text(f"{reason.sentence.rstrip('.')}."), (0, 0, 0, 2)))
        console.print()
