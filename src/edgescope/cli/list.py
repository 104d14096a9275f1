"""``edgescope list``: everything that can be chosen by name, with its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules
from edgescope.cli.listing import REGISTRIES, choices_of
from edgescope.cli.terminal import Terminal


@dataclass(frozen=True)
class List(Command):
    """List everything that can be chosen by name, with its options, their defaults and their types.

    Options follow the name as name:key=value,key=value, for example --model mlp:widths=200x200,activation=relu.

    Examples:
      edgescope list
      edgescope list models
      edgescope list data --module mypackage.mydata
    """

    kind: Annotated[
        Positional[
            Literal[
                "all",
                "studies",
                "setups",
                "data",
                "models",
                "optimizers",
                "schedules",
                "geometries",
                "losses",
                "measures",
            ]
        ],
        arg(metavar="[KIND]"),
    ] = "all"
    """what to list: studies, setups, data, models, optimizers, schedules, geometries, losses or measures"""
    module: Modules = ()

    def run(self) -> int:
        console = Terminal()
        for kind in REGISTRIES if self.kind == "all" else (self.kind,):
            console.print(Text(kind, style="bold"))
            console.print(_table(kind))
        return 0


def _table(kind: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for choice in choices_of(kind):
        table.add_row(Text(f"  {choice.name}", style="cyan"), Text(f"{choice.summary}\n{choice.options}".strip()))
    return table
