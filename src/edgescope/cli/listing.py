"""What can be chosen by name, with its options: from the registries, or from a file without loading torch."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shlex
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgescope.options import as_text

if TYPE_CHECKING:
    from edgescope.training import RunConfig

REGISTRIES: Final = {
    "studies": "edgescope.studies:STUDIES",
    "setups": "edgescope.training.setups:SETUPS",
    "data": "edgescope.data:DATA",
    "models": "edgescope.models:MODELS",
    "optimizers": "edgescope.optim:OPTIMIZERS",
    "schedules": "edgescope.training.schedules:SCHEDULES",
    "geometries": "edgescope.geometry:GEOMETRIES",
    "losses": "edgescope.losses:LOSSES",
    "measures": "edgescope.measures:MEASURES",
}
"""The registry of each kind, as module:attribute. Most of these modules need torch."""

_PACKAGE: Final = Path(__file__).parents[1]

FILE: Final = Path(__file__).with_name("listing.json")
"""What the registries of this package contain; tools/write_listing.py writes it, and a test checks it."""


@dataclass(frozen=True)
class Choice:
    """Something that can be chosen by name."""

    name: str
    summary: str
    """The first line of its docstring; empty where it has none."""
    options: str
    """Its options with their defaults and types; of a setup, the options of ``edgescope train`` that it sets."""


def choices_of(kind: str) -> list[Choice]:
    """What can be chosen of one of the kinds in ``REGISTRIES``, by name.

    A registry that has been loaded is read, since user code may have added to it. The others are as in ``FILE``.
    """
    if REGISTRIES[kind].partition(":")[0] in sys.modules:
        return read_registry(kind)
    return [Choice(*entry) for entry in json.loads(FILE.read_text(encoding="utf-8"))[kind]]


def read_registry(kind: str) -> list[Choice]:
    """What can be chosen of one of the kinds, from its registry, which is loaded first."""
    module, _, attribute = REGISTRIES[kind].partition(":")
    registry = getattr(importlib.import_module(module), attribute)
    options = _as_typed if kind == "setups" else _options
    return [Choice(name, _first_line(registry[name]), options(registry[name])) for name in registry]


def as_file(choices: Mapping[str, Sequence[Choice]]) -> str:
    """The text of ``FILE`` with these choices of each kind."""
    entries = {kind: [dataclasses.astuple(choice) for choice in found] for kind, found in choices.items()}
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def _first_line(thing: type) -> str:
    text = (thing.__doc__ or "").strip()
    generated = text.startswith(f"{thing.__name__}(")  # what dataclasses write where there is no docstring
    return "" if generated or not text else text.splitlines()[0].replace("``", "")


def _options(thing: type) -> str:
    if not dataclasses.is_dataclass(thing):
        return ""
    hints = typing.get_type_hints(thing)
    fields = [field for field in dataclasses.fields(thing) if field.init]
    return "  ".join(f"{field.name}={_default(field)} ({_kind(hints[field.name])})" for field in fields)


def _as_typed(setup: type[RunConfig]) -> str:
    """What a setup stands for, as ``edgescope train`` would take it."""
    from edgescope.cli.train import flags
    from edgescope.training import RunConfig

    return shlex.join(flags(setup(), RunConfig()))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "REQUIRED" if field.default_factory is dataclasses.MISSING else as_text(field.default_factory())
    text = as_text(field.default)
    # The path of a file of the package is shown from the package on, alike on all machines.
    return Path(text).relative_to(_PACKAGE.parent).as_posix() if text.startswith(str(_PACKAGE)) else text


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
