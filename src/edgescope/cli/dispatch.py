"""From the arguments to the command: only the one that was asked for is imported, so that help need not wait."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
import io
import re
import sys
from collections.abc import Sequence
from inspect import cleandoc
from typing import Final

from edgescope.cli.failure import guarded
from edgescope.errors import InputError, UnknownNameError

COMMANDS: Final = {
    "list": "what there is: studies, setups, data, models, optimizers, geometries, losses, measures",
    "run": "carry out a study and report its findings",
    "train": "one training run of any data, model and optimizer, measured on the way",
    "sweep": "one model at many learning rates: the critical rate, the regimes, the best test loss",
    "report": "write report, figures and findings of a study or of runs anew",
    "export": "the record of a run as Parquet, CSV or TensorBoard files",
    "inspect": "the curvature at a checkpoint of your own, and whether an optimizer is stable there",
}

HELP: Final = """\
usage: edgescope COMMAND [ARGUMENTS]
       edgescope COMMAND --help

Measures and explains neural-network training at the edge of stability.

commands:
{commands}

options:
  -h, --help     show this and exit
  --version      show the version and exit

examples:
  edgescope list models
  edgescope run edge --preset quick --out runs/edge
  edgescope train --data fashion-5k --model mlp:widths=200x200 --optimizer sgd --lr 0.02 --out runs/a
  edgescope sweep mymodule:make_run --lr 1e-3:1:25log
  edgescope inspect model.pt --objective mymodule:objective --optimizer sgd:momentum=0.9 --lr 0.1
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with ``arguments`` (this process's own by default); the exit code.

    0: done, whatever the verdicts; 1: a fault of our own; 2: something the user can mend, said in one line on stderr;
    130: Ctrl-C; 141: the reader of the output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without η or ✓ shows ? and loses nothing else
    return guarded(lambda: _dispatch(list(sys.argv[1:] if arguments is None else arguments)))


def _dispatch(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<9}{what}" for name, what in COMMANDS.items())), end="")
        return 0
    if name == "--version":
        print(f"edgescope {importlib.metadata.version('edgescope')}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        raise UnknownNameError(
            f"unknown command '{name}'",
            expected=f"one of {', '.join(COMMANDS)}",
            hint=f"'edgescope {near[0]}'" if near else "'edgescope --help'",
        )
    import tyro

    from edgescope.cli.command import import_modules

    import_modules(rest)
    command = getattr(importlib.import_module(f"edgescope.cli.{name}"), name.capitalize())
    before = command.before(rest)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            chosen = tyro.cli(
                command,
                prog=f"edgescope {name}",
                description=cleandoc(command.__doc__ or ""),  # tyro alone would leave out the examples
                args=rest,
                **({} if before is None else {"default": before}),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone),
            )
    except SystemExit as ending:
        if not ending.code:  # --help
            return 0
        raise _refusal(name, complaint.getvalue()) from ending
    return chosen.run()


def _refusal(command: str, box: str) -> InputError:
    """What tyro says below a title, in a box of several lines or between ASCII rules, as one line."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    parts = [" ".join(part.split()).rstrip(".:") for part in re.split("─+|-{4,}", " ".join(lines))]
    fault = parts[0 if "╭" in box else 1]
    near = [name for part in parts if part.startswith("Perhaps you meant") for name in re.findall(r"--[\w-]+", part)]
    return InputError(fault[:1].lower() + fault[1:], hint=near[0] if near else f"'edgescope {command} --help'")
