"""From the arguments of one command to its object; arguments that cannot be used are refused in one line."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any, Final, NoReturn, TypeVar

import tyro

# The only part of tyro that gives a rejected argument as data rather than as a printed box; not public, so that the
# version is pinned below the next minor one, and an event that is not known here becomes the most general line.
from tyro import _errors as events

from edgescope.cli.command import Command, given
from edgescope.errors import InputError
from edgescope.near_names import nearest
from edgescope.options import shown

C = TypeVar("C", bound=Command)

MARKERS: Final = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone)


def parse(command: type[C], name: str, arguments: Sequence[str]) -> C | None:
    """The command that ``arguments`` describe; None where they asked for help, which is printed.

    Raises :class:`InputError` in one line that names the argument, with the nearest option where one is unknown.
    """
    before = command.before(arguments)
    defaults: dict[str, Any] = {} if before is None else {"default": before}

    def refuse(event: events.ParseErrorEvent) -> NoReturn:
        raise refusal(event, name, options_of(command), arguments)

    described, examples, commands = cleandoc(command.__doc__ or "").partition("Examples:")
    if {"-h", "--help"} & set(arguments):
        print(wrapped(described, shutil.get_terminal_size().columns), end="\n\n")
    try:
        with events.on_parse_error(refuse):
            return tyro.cli(
                command,
                prog=f"edgescope {name}",
                description="",  # printed here, since tyro neither wraps it nor keeps examples as they are
                args=arguments,
                **defaults,
                config=MARKERS,
            )
    except SystemExit as ending:
        if not ending.code:  # --help
            print(f"\n{examples}{commands}")
            return None
        raise InputError("the arguments cannot be read", hint=f"'edgescope {name} --help'") from ending


def wrapped(text: str, width: int) -> str:
    """The paragraphs of ``text`` in lines of at most ``width`` characters."""
    return "\n\n".join(textwrap.fill(paragraph, min(width, 100)) for paragraph in text.strip().split("\n\n"))


def options_of(command: type[Any]) -> dict[str, Any]:
    """The type of every argument by its name as it is typed; those of a nested configuration have no prefix."""
    found: dict[str, Any] = {}
    hints = typing.get_type_hints(command)
    for field in dataclasses.fields(command):
        kind = hints[field.name]
        nested = isinstance(kind, type) and dataclasses.is_dataclass(kind)
        found |= options_of(kind) if nested else {f"--{field.name.replace('_', '-')}": kind}
    return found


def refusal(
    event: events.ParseErrorEvent, name: str, options: Mapping[str, Any], arguments: Sequence[str]
) -> InputError:
    """What is wrong with the arguments of the command ``name``, as an error of one line."""
    usage = f"'edgescope {name} --help'"
    match event:
        case events.UnrecognizedArgs(tokens=[token, *_]):
            if not token.startswith("-"):
                return InputError(f"unexpected argument {shown(token)}", hint=usage)
            flag = token.partition("=")[0]
            near = nearest(flag.lstrip("-"), [option.lstrip("-") for option in options])
            return InputError(f"unknown option {flag}", hint=f"--{near}" if near else usage)
        case events.MissingArgs(missing_arguments=missing):
            return InputError(f"missing argument: {', '.join(_label(one.arg) for one in missing)}", hint=usage)
        case events.InvalidChoice(argument=argument, value=value, choices=choices):
            return InputError(f"{_label(argument)} {shown(value)}", expected=f"one of {', '.join(choices)}", hint=usage)
        case events.BadValue(argument=argument, reason="too_few_values"):
            return InputError(f"{_label(argument)} without a value", hint=usage)
        case events.InstantiationFailure(message=message, argument=argument):
            flag = "" if argument is None else _label(argument)
            values, kinds = given(arguments, flag), _kinds(options.get(flag))
            if values and kinds:
                return InputError(f"{flag} {shown(values[-1])}", expected=" or ".join(kinds), hint=usage)
            return InputError(f"{flag}: {' '.join(message.split())}".removeprefix(": "), hint=usage)
        case _:
            return InputError("the arguments cannot be read", hint=usage)


def _label(argument: Any) -> str:
    """An argument as it is typed, or, if it has no name on the command line, as the usage line shows it."""
    text = str(argument.display_name())
    return text if text.startswith("-") else text.upper()


def _kinds(hint: Any) -> list[str]:
    """What values of this type are called; empty where it has none of these."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [words for kind, words in ((int, "a whole number"), (float, "a number")) if kind in parts]
