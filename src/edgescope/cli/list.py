"""``edgescope list``: everything that can be chosen by name, with its options."""

from __future__ import annotations

import dataclasses
import shlex
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules
from edgescope.cli.terminal import Terminal
from edgescope.options import as_text
from edgescope.registry import Registry

if TYPE_CHECKING:
    from edgescope.training import RunConfig

KINDS = ("studies", "setups", "data", "models", "optimizers", "schedules", "geometries", "losses", "measures")


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
        for kind in KINDS if self.kind == "all" else (self.kind,):
            console.print(Text(kind, style="bold"))
            console.print(_table(kind))
        return 0


def _registry(kind: str) -> Registry[Any]:
    # Imported here, each alone: most of them need torch.
    match kind:
        case "studies":
            from edgescope.studies import STUDIES

            return STUDIES
        case "setups":
            from edgescope.training import SETUPS

            return SETUPS
        case "data":
            from edgescope.data import DATA

            return DATA
        case "models":
            from edgescope.models import MODELS

            return MODELS
        case "optimizers":
            from edgescope.optim import OPTIMIZERS

            return OPTIMIZERS
        case "schedules":
            from edgescope.training.schedules import SCHEDULES

            return SCHEDULES
        case "geometries":
            from edgescope.geometry import GEOMETRIES

            return GEOMETRIES
        case "losses":
            from edgescope.losses import LOSSES

            return LOSSES
        case _:
            from edgescope.measures import MEASURES

            return MEASURES


def _table(kind: str) -> Table:
    registry, table = _registry(kind), Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for name in registry:
        thing = registry[name]
        options = _as_typed(thing) if kind == "setups" else "  ".join(_options(thing))
        table.add_row(Text(f"  {name}", style="cyan"), Text(f"{_first_line(thing)}\n{options}".strip()))
    return table


def _first_line(thing: type) -> str:
    text = (thing.__doc__ or "").strip()
    generated = text.startswith(f"{thing.__name__}(")  # what dataclasses write where there is no docstring
    return "" if generated or not text else text.splitlines()[0].replace("``", "")


def _options(thing: type) -> list[str]:
    if not dataclasses.is_dataclass(thing):
        return []
    hints = typing.get_type_hints(thing)
    return [f"{f.name}={_default(f)} ({_kind(hints[f.name])})" for f in dataclasses.fields(thing) if f.init]


def _as_typed(setup: type[RunConfig]) -> str:
    """What a setup stands for, as ``edgescope train`` would take it."""
    from edgescope.cli.train import flags
    from edgescope.training import RunConfig

    return shlex.join(flags(setup(), RunConfig()))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return as_text(field.default)
    return "REQUIRED" if field.default_factory is dataclasses.MISSING else as_text(field.default_factory())


def _kind(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, arguments))
    if typing.get_origin(hint) is tuple:
        return f"{_kind(arguments[0])}s joined by x"
    if arguments:
        return " or ".join(dict.fromkeys(_kind(a) for a in arguments))
    plain = {int: "integer", float: "number", str: "text", bool: "true|false", type(None): "none"}
    return plain.get(hint, getattr(hint, "__name__", str(hint)))
