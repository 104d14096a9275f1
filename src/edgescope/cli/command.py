"""The base class of commands, whose fields are the arguments; and the import of user modules before parsing."""

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
    arg(metavar="MODULE", help="import this Python module first, so that the names it registers are known"),
]

NoDefault = arg(help_behavior_hint="")
"""Marks an argument whose help text already states its default."""


@dataclass(frozen=True)
class Command(ABC):
    """One command: tyro fills the fields from the arguments, the docstring is its help."""

    @classmethod
    def before(cls, arguments: Sequence[str]) -> Self | None:
        """Defaults that depend on the arguments, such as those of ``--setup``; None for the defaults of the fields."""
        return None

    @abstractmethod
    def run(self) -> int:
        """Run the command and return its exit code."""


def import_modules(arguments: Sequence[str]) -> None:
    """Import what ``--module`` names among ``arguments``, before these are read: names in them may come from there."""
    for name in given(arguments, "--module"):
        import_module(name)


def given(arguments: Sequence[str], flag: str) -> list[str]:
    """The values of ``flag`` in ``arguments``, one for each time that it is given."""
    found = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == flag and (equals or place + 1 < len(arguments)):
            found.append(value if equals else arguments[place + 1])
    return found
