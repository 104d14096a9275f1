"""What a command is: a dataclass whose fields are its arguments; and the user's modules, which are imported first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

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

    @classmethod
    def before(cls, arguments: Sequence[str]) -> Self | None:
        """What the arguments change, where it depends on them; None: the defaults of the fields."""
        return None

    @abstractmethod
    def run(self) -> int:
        """Carry it out; the exit code."""


def import_modules(arguments: Sequence[str]) -> None:
    """Import what ``--module`` names among ``arguments``, before these are read: names in them may come from there."""
    for name in given(arguments, "--module"):
        import_module(name)


def given(arguments: Sequence[str], flag: str) -> list[str]:
    """What ``arguments`` give for ``flag``, each time that it is among them."""
    found = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == flag and (equals or place + 1 < len(arguments)):
            found.append(value if equals else arguments[place + 1])
    return found
