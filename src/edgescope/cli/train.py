"""``edgescope train``: one training run with measurements."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from tyro.conf import arg

from edgescope.cli.command import Command, Modules, NoDefault, given
from edgescope.cli.failure import INTERRUPTED
from edgescope.cli.say import say
from edgescope.printable import shell_quoted
from edgescope.training import SETUPS, RunConfig, train

if TYPE_CHECKING:
    from edgescope.monitor import Forecast
    from edgescope.store import Record


@dataclass(frozen=True)
class Train(Command):
    """Train one model and measure during training how close it is to the edge of stability.

    Data, model, loss, optimizer and measures are given by name with options (see 'edgescope list'). --setup selects a
    predefined run; options given as well override those of the setup. Divergence is recorded as a result and is not an
    error. After Ctrl-C the run can be continued with --resume.

    Examples:
      edgescope train --model mlp:widths=200x200 --lr 0.02 --steps 2000 --out runs/a
      edgescope train --data digits --optimizer adam --lr 1e-3 --measures loss accuracy sharpness:k=3 ratio
      edgescope train --setup grok-mlp --seed 1 --out runs/grok
    """

    setup: Annotated[str | None, NoDefault] = None
    """predefined run (see 'edgescope list setups') that sets the defaults of the options below"""
    config: Annotated[RunConfig, arg(name="")] = field(default_factory=RunConfig)
    out: Annotated[Path | None, NoDefault] = None
    """output folder for record and checkpoints; by default runs/SETUP or runs/DATA-MODEL-OPTIMIZER-LR"""
    resume: Annotated[bool, NoDefault] = False
    """continue an earlier call with the same options and output folder"""
    module: Modules = ()

    @classmethod
    def before(cls, arguments: Sequence[str]) -> Self | None:
        names = given(arguments, "--setup")
        return cls(setup=names[-1], config=SETUPS.build(names[-1])) if names else None

    def run(self) -> int:
        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.progress import ProgressLine
        from edgescope.store import Record

        config = self.config
        names = [spec.partition(":")[0] for spec in (config.data, config.model, config.optimizer)]
        out = self.out or Path("runs") / (self.setup or "-".join([*names, f"{config.lr:g}"]))
        keep_freed_memory()
        try:
            with ProgressLine("training") as line:
                result = train(config, out, progress=line, resume=self.resume, on_forecast=_say_forecast)
        except KeyboardInterrupt:
            return self._interrupted(out)
        with Record.open(out) as record:
            _tell(record)
        if result.status == "interrupted":
            return self._interrupted(out)
        say(f"record: {out} (for figures: edgescope report {shell_quoted([str(out)])})")
        return 0

    def _interrupted(self, out: Path) -> int:
        setup = ["--setup", self.setup] if self.setup else []
        usual = SETUPS.build(self.setup) if self.setup else RunConfig()
        words = ["edgescope", "train", *setup, *flags(self.config, usual), "--out", str(out), "--resume"]
        words += [word for name in self.module for word in ("--module", name)]
        say("interrupted; all measurements so far are kept. To continue:", f"  {shell_quoted(words)}", file=sys.stderr)
        return INTERRUPTED


def flags(config: RunConfig, usual: RunConfig) -> list[str]:
    """The command-line options that differ from those of ``usual``."""
    words: list[str] = []
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        if value == getattr(usual, option.name):
            continue
        if value is True:  # such options are off unless they are given
            words.append(f"--{option.name.replace('_', '-')}")
        else:
            values = value if isinstance(value, tuple | list) else (value,)
            words += [f"--{option.name.replace('_', '-')}", *map(str, values)]
    return words


def _say_forecast(forecast: Forecast) -> None:
    say(str(forecast), file=sys.stderr)


def _tell(record: Record) -> None:
    from edgescope.monitor import verdict_of

    table = record.table()
    say(f"{record.status} after {record.info.get('steps', record.last_step)} steps")
    for kind in ("diverged", "stopped"):
        for step, text in record.events().filter(kind=kind).select("step", "text").iter_rows():
            say(f"{kind} at step {step}: {text}")
    for measure, part, title in (
        ("loss", "train", "training loss"),
        ("loss", "test", "test loss"),
        ("accuracy", "train", "training accuracy"),
        ("accuracy", "test", "test accuracy"),
        ("sharpness", "1", "sharpness"),
        ("effective_sharpness", "", "effective sharpness"),
        ("threshold", "", "threshold"),
        ("ratio", "", "effective sharpness / threshold"),
    ):
        values = table.filter(measure=measure, part=part).drop_nulls("value")
        if not values.is_empty():
            last = values.row(-1, named=True)
            say(f"{title:<32} {last['value']:.5g} at step {last['step']}")
    say(f"regime at the end: {verdict_of(record)}")
