"""Checks of options and arguments: what means nothing is refused in one line, before anything is made or computed."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar, runtime_checkable

from edgescope.errors import InputError, UnknownNameError
from edgescope.near_names import suggestion
from edgescope.short_errors import short_errors

P = ParamSpec("P")
R = TypeVar("R")

HIGHEST: Final = 2**63 - 1
"""The largest whole number that tensors, tables and records can hold."""

LARGEST: Final = 1e18
"""The largest size of an option that is a real number: the product of two such numbers is still one of float32."""

LARGEST_RATE: Final = 1e30
"""The largest learning rate of a measurement: that of a loss whose unit is tiny."""

SMALLEST: Final = 1e-30
"""The smallest positive number that an option which has to be positive may have: below, it counts as 0 in float32."""

SHOWN: Final = 60
"""Characters of a value in an error message."""


@runtime_checkable
class Check(Protocol):
    """The value as a plain Python object, or an :class:`InputError` that names owner, option and value."""

    def __call__(self, owner: str, name: str, value: Any, *, hint: str | None = None) -> Any: ...


def check_int(
    owner: str, name: str, value: Any, *, least: int | None = None, most: int = HIGHEST, hint: str | None = None
) -> int:
    """``value`` as a whole number from ``least`` to ``most``; NumPy's are accepted, booleans and floats are not."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and (least is None or value >= least) and -HIGHEST <= value <= most:
        return int(value)
    expected = "a whole number"
    if most < HIGHEST:
        expected += f" from {least} to {most:,}" if least is not None else f" of at most {most:,}"
    elif least is not None:
        expected += f" of at least {least}"
    if whole and abs(value) > HIGHEST:
        expected += ", below 2^63"
    raise refusal(owner, name, value, expected, hint)


def check_float(
    owner: str,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    hint: str | None = None,
) -> float:
    """``value`` as a finite number within the bounds: more than ``above``, at least ``least``, less than ``below``, at
    most ``most``. Sizes beyond 1e18 are refused unless ``most`` is larger, and those below 1e-30 where ``above`` is 0.
    NumPy's numbers are accepted.
    """
    number = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # of a Python integer
            number = math.inf
    within = (
        abs(number) <= (LARGEST if most is None else max(LARGEST, most))
        and (above is None or number > above)
        and (above != 0 or number >= SMALLEST)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    )
    if within:
        return number
    least = SMALLEST if above == 0 and 0 < number < SMALLEST else least
    most = LARGEST if below is most is None and math.isfinite(number) and number > LARGEST else most
    bounds = [f"of at least {least:g}"] if least is not None else [f"above {above:g}"] if above is not None else []
    bounds += [f"below {below:g}"] if below is not None else [f"at most {most:g}"] if most is not None else []
    raise refusal(owner, name, value, " ".join(["a finite number", " and ".join(bounds)]).strip(), hint)


def check_seed(owner: str, value: Any, name: str = "seed", *, hint: str | None = None) -> int:
    """``value`` as a seed of a random generator, from 0 to 2^63 - 1."""
    return check_int(owner, name, value, least=0, hint=hint)


def check_bool(owner: str, name: str, value: Any, *, hint: str | None = None) -> bool:
    """``value`` as True or False; numbers are refused."""
    numpy = sys.modules.get("numpy")  # where it was never imported there are no numbers of it
    if isinstance(value, bool) or (numpy is not None and isinstance(value, numpy.bool_)):
        return bool(value)
    raise refusal(owner, name, value, "True or False", hint)


def check_text(owner: str, name: str, value: Any, *, empty: bool = True, hint: str | None = None) -> str:
    """``value`` as text, which may be ``empty`` unless told otherwise."""
    if not isinstance(value, str) or "\0" in value:
        raise refusal(owner, name, value, "text", hint)
    if not empty and not value.strip():
        raise refusal(owner, name, value, "text that is not empty", hint)
    return value


def check_choice(owner: str, name: str, value: Any, *, known: Sequence[Any], hint: str | None = None) -> Any:
    """``value`` as one of the ``known`` words; the message suggests the nearest."""
    if any(type(value) is type(word) and value == word for word in known):
        return value
    raise UnknownNameError(
        f"{owner} with {name}={shown(value)}",
        expected=f"one of {', '.join(map(str, known))}",
        hint=suggestion(shown(value).strip("'"), known) or hint,
    )


def check_each(owner: str, name: str, value: Any, *, check: Check, hint: str | None = None) -> tuple[Any, ...]:
    """``value`` as a tuple of members that all pass ``check``; a list is accepted."""
    if not isinstance(value, tuple | list):
        raise refusal(owner, name, value, "a tuple of values", hint)
    return tuple(check(owner, f"{name}[{place}]", member, hint=hint) for place, member in enumerate(value))


def check_optional(owner: str, name: str, value: Any, *, check: Check, hint: str | None = None) -> Any:
    """None, or ``value`` as ``check`` has it."""
    return None if value is None else check(owner, name, value, hint=hint)


def check_function(owner: str, name: str, value: Any, *, hint: str | None = None) -> Any:
    """``value`` as something that can be called."""
    if callable(value):
        return value
    raise refusal(owner, name, value, "a function", hint)


def check_folder(owner: str, name: str, value: Any, *, hint: str | None = None) -> Any:
    """``value`` as the path of a folder: text or an ``os.PathLike``."""
    if isinstance(value, str | os.PathLike):
        written = os.fspath(value)
        if isinstance(written, str) and written.strip() and "\0" not in written:
            return value
    raise refusal(owner, name, value, "the path of a folder", hint)


def integer(least: int | None = None, most: int = HIGHEST) -> Check:
    """The check of a whole number: :func:`check_int`."""
    return partial(check_int, least=least, most=most)


def real(
    *, above: float | None = None, least: float | None = None, below: float | None = None, most: float | None = None
) -> Check:
    """The check of a finite number: :func:`check_float`."""
    return partial(check_float, above=above, least=least, below=below, most=most)


def text(*, empty: bool = True) -> Check:
    """The check of text: :func:`check_text`."""
    return partial(check_text, empty=empty)


def choice(*known: Any) -> Check:
    """The check of one of several words: :func:`check_choice`."""
    return partial(check_choice, known=known)


def each(check: Check) -> Check:
    """The check of a tuple: :func:`check_each`."""
    return partial(check_each, check=check)


def instance_of(kind: type) -> Check:
    """The check of an object of a class."""

    def check(owner: str, name: str, value: Any, *, hint: str | None = None) -> Any:
        if not isinstance(value, kind):
            raise refusal(owner, name, value, f"a {kind.__name__}", hint)
        return value

    return check


def optional(check: Check) -> Check:
    """The check of a value that may be None: :func:`check_optional`."""
    return partial(check_optional, check=check)


def check_fields(options: Any, owner: str, **checks: Check) -> None:
    """Check all fields of a dataclass of options, from its ``__post_init__``, and keep them as plain Python objects.

    A field that is not among ``checks`` is held against its annotation: a whole number, a finite number, True or
    False, text, one of the words of a ``Literal``, a tuple of these, None where it may be; other types pass. One named
    ``seed`` has to be a seed. The message suggests the default of the field. ``owner`` is what the options belong to,
    such as "measure 'sharpness'".
    """
    known = _fields_of(options.__class__)
    for name in checks:
        if name not in known:
            raise TypeError(f"{type(options).__name__} has no field '{name}' to check")
    for name, (usual, default) in known.items():
        value = getattr(options, name)
        plain = checks.get(name, usual)(owner, name, value, hint=_hint(name, value, default))
        if plain is not value:
            object.__setattr__(options, name, plain)  # the dataclass may be frozen


def checked(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: arguments pass ``checks``, by name, before the function sees them as plain Python objects.

    An argument named ``seed`` has to be a seed. What is not given is not checked. The message suggests the default.
    Errors leave the function without the frames inside (:func:`edgescope.short_errors.short_errors`).
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        usual = {"seed": integer(least=0)} if "seed" in signature.parameters else {}
        owner = function.__qualname__.removesuffix(".__init__")
        every = {name: (check, signature.parameters[name].default) for name, check in (usual | checks).items()}

        @short_errors
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            for name, (check, default) in every.items():
                if name in given.arguments:
                    value = given.arguments[name]
                    simple = isinstance(default, bool | int | float | str) and default != ""
                    hint = f"{name}={default!r}" if simple else None
                    given.arguments[name] = check(owner, name, value, hint=hint)
            return function(*given.args, **given.kwargs)

        return call

    return decorate


def as_text(value: Any) -> str:
    """An option's value as it is given in text: ``200x200``, ``true``, ``none``."""
    if isinstance(value, tuple):
        return "x".join(map(as_text, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def shown(value: Any) -> str:
    """A value for an error message, cut where it is long."""
    if isinstance(value, int) and value.bit_length() > 4 * SHOWN:  # Python refuses to write the longest out
        return f"({value.bit_length()} bits)"
    said = f"{value:.12g}" if isinstance(value, float) else repr(value)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}[...]"


def type_of(value: Any) -> str:
    """What kind of thing an argument is, for an error message: a value of a type, or a class itself."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"a value of type {type(value).__name__}"


def refusal(owner: str, name: str, value: Any, expected: str, hint: str | None = None) -> InputError:
    """The error that an option of ``owner`` has a value that means nothing."""
    return InputError(f"{owner} with {name}={shown(value)}", expected=expected, hint=hint)


@cache
def _fields_of(kind: type) -> dict[str, tuple[Check, Any]]:
    """The check that follows from a field's annotation, and its default, of all fields that are options."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: (integer(least=0) if field.name == "seed" else _usual(hints[field.name]), field.default)
        for field in dataclasses.fields(kind)
        if field.init
    }


def _hint(name: str, value: Any, default: Any) -> str | None:
    """The default, where there is one that may be worth a try."""
    worth = isinstance(default, bool | int | float | str | tuple) and default not in ("", ())
    if not worth or value is default:
        return None
    if isinstance(default, tuple) and any(isinstance(member, str) for member in default):
        return f"{name}={shown(default[:2])}"  # not a form that a text is read in: names may have an x in them
    return f"{name}={as_text(default)}"


def _usual(hint: Any) -> Check:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        inner = _usual(kinds[0]) if len(kinds) == 1 else _anything
        return optional(inner) if len(kinds) < len(arguments) else inner
    if origin is typing.Literal:
        return choice(*arguments)
    if origin is tuple:
        return each(_usual(arguments[0]))
    plain: dict[Any, Check] = {bool: check_bool, int: integer(), float: real(), str: text()}
    return plain.get(hint, _anything)


def _anything(owner: str, name: str, value: Any, *, hint: str | None = None) -> Any:
    return value
