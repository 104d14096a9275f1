"""Choose and run a command. Only the requested command is imported, so that ``--help`` and ``--version`` are fast."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence
from typing import Final

from edgescope import __version__
from edgescope.cli.failure import guarded, termination_as_ctrl_c
from edgescope.errors import UnknownNameError
from edgescope.extras import require
from edgescope.near_names import nearest

COMMANDS: Final = {
    "demo": "train networks on real images at the edge of stability, and write the report",
    "list": "list studies, setups, data sets, models, optimizers, geometries, losses and measures",
    "run": "run a study and report its findings",
    "train": "train one model and measure its curvature during training",
    "sweep": "train one model at many learning rates and compare norm, sharpness and test loss",
    "lr": "find the learning rate to train at, and where training turns unstable",
    "doctor": "check a model, its loss, its data and its optimizer, and forecast what measures cost",
    "report": "write the report and figures of a study or of runs again",
    "advise": "tell what regime a run is in, which learning rates are stable, and what to try",
    "board": "show runs on a live page in the browser while they are trained",
    "export": "export the record of a run as Parquet, CSV or TensorBoard files",
    "verify": "check that records and checkpoints are not damaged",
    "inspect": "measure the curvature at your own checkpoint and whether an optimizer is stable there",
}

HELP: Final = """\
usage: edgescope COMMAND [ARGUMENTS]
       edgescope COMMAND --help

Measure neural-network training at the edge of stability.

commands:
{commands}

options:
  -h, --help     show this message and exit
  --version      show the version and exit

examples:
  edgescope list models
  edgescope run edge --preset quick --out runs/edge
  edgescope train --data fashion-5k --model mlp:widths=200x200 --optimizer sgd --lr 0.02 --out runs/a
  edgescope sweep mymodule:make_run --lr 1e-3:1:25log
  edgescope lr mymodule:make_run --optimizer adamw
  edgescope doctor mymodule:make_run --optimizer adamw
  edgescope inspect model.pt --objective mymodule:objective --optimizer sgd:momentum=0.9 --lr 0.1
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with ``arguments`` (this process's own by default); the exit code.

    0: completed, whatever the verdicts; 1: an internal error; 2: an error that the user can correct, printed as one
    line on stderr; 130: interrupted by Ctrl-C or SIGTERM; 141: the reader of the output has closed it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without η or ✓ shows ? and loses nothing else
    with termination_as_ctrl_c():
        return guarded(lambda: _dispatch(list(sys.argv[1:] if arguments is None else arguments)))


def _dispatch(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<9}{what}" for name, what in COMMANDS.items())), end="")
        return 0
    if name == "--version":
        print(f"edgescope {__version__}")
        return 0
    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        raise UnknownNameError(
            f"unknown command '{name}'",
            expected=f"one of {', '.join(COMMANDS)}",
            hint=f"'edgescope {near}'" if near else "'edgescope --help'",
        )
    require("cli", "the command line needs", "rich", "tyro")
    from edgescope.cli.command import import_modules
    from edgescope.cli.parsing import parse

    import_modules(rest)
    command = getattr(importlib.import_module(f"edgescope.cli.{name}"), name.capitalize())
    chosen = parse(command, name, rest)
    return 0 if chosen is None else chosen.run()
