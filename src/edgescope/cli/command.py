"""What a command is: a dataclass whose fields are its arguments; and the user's modules, which are imported first."""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from edgescope.cli.failure import told
from edgescope.errors import InputError

Modules = Annotated[
    tuple[str, ...],
    UseAppendAction,
    arg(metavar="MODULE", help="Python module to import first, so that what it registers is known."),
]

NoDefault = arg(help_behavior_hint="")
"""Marks an argument whose help says itself what happens without it."""


@dataclass(frozen=True)
class Command(ABC):
    """One command: tyro fills the fields from the arguments, the docstring is its help."""

    @abstractmethod
    def run(self) -> int:
        """Carry it out; the exit code."""


def import_modules(arguments: Sequence[str]) -> None:
    """Import what ``--module`` names among ``arguments``, before these are read: names in them may come from there."""
    for place, argument in enumerate(arguments):
        flag, equals, name = argument.partition("=")
        if flag == "--module" and (equals or place + 1 < len(arguments)):
            import_module(name if equals else arguments[place + 1])


def import_module(name: str) -> ModuleType:
    """One module of the user by its dotted name, found from the working directory too; InputError if it fails."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    with told(f"importing module '{name}'"):
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"no module '{name}'", expected="a dotted name such as package.module")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise InputError(
                f"no module '{name}'",
                expected="a module that Python finds from here",
                hint="its dotted name without .py, in the folder that holds it",
            ) from error
