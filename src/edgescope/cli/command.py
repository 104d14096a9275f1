"""What a command is: a dataclass whose fields are its arguments; and the user's modules, which are imported first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from edgescope.user_code import import_module

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
