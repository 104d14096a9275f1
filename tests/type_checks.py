"""Annotations that are checked while the tests run: jaxtyping's import hook with beartype."""

from __future__ import annotations

import functools
import io
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import IO, Any, Final, Self, TextIO

import jaxtyping
import numpy as np
import numpy.typing as npt
from beartype import BeartypeConf, FrozenDict, beartype
from beartype._check.code import codemain
from jaxtyping import install_import_hook

SOURCES: Final = Path(__file__).parent.parent / "src"
"""Where the modules lie."""

LEFT_OUT: Final = re.compile(r"^@compiled|import compiled$|extras\.compiled\(|sys\._getframe\(", re.MULTILINE)
"""What a module has whose functions cannot be wrapped: Numba compiles them, or they look at the frames above them."""

NUMBERS: Final = (
    "claims",
    "dimension",
    "flows",
    "geometry",
    "linalg",
    "phases",
    "sharpness",
    "simulate",
    "statistics",
    "theory",
)
"""The packages of numbers and arrays, of which every function is checked. Of the others all classes are, and
the functions that name the shape of an array: checking every call of every small function would take as long again as
the tests themselves."""

ARRAYS: Final = re.compile(r"\b(Float|Int|Bool|Num|Shaped|Complex|Real|Integer)\[")
"""How an annotation names the shape of an array."""

MEASURED: Final = ("edgescope.data.tar", "edgescope.data.cifar")
"""Modules whose memory tests measure for thousands of calls, to which that of the checks would add."""

AROUND: Final = (str(Path(jaxtyping.__file__).parent), "<string>", "<@beartype", __file__)
"""Files of the functions that are put around those of the package."""

FIRST: Final = 5
"""How many calls of a function are checked in every test."""

EVERY: Final = 16
"""Of the calls after these, one of so many is checked: a check takes 20 µs and more, which in a loop of small steps is
as long as the step itself."""

CALLS: Final[Counter[int]] = Counter()
"""The calls of each function in the present test, by the identity of its code: one that is defined inside of another
function is the same at every definition."""

WIDER: Final = {
    Self: Any,
    Self | None: Any,
    IO[str]: io.IOBase,
    TextIO: io.IOBase,
    npt.ArrayLike: Any,
    npt.ArrayLike | None: Any,
    int: int | np.integer[Any],
    float: float | int | np.floating[Any] | np.integer[Any],
}
HOW: Final = BeartypeConf(hint_overrides=FrozenDict(WIDER))
"""An ``int`` passes for a ``float``, as static type checkers have it, and NumPy's numbers for those of Python, as the
checks of arguments have it; ``Self`` and ``ArrayLike`` are left to static type checkers."""


def after_the_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check arguments and result of a call once it has returned.

    jaxtyping gives two functions to a type checker: one with the parameters alone, which it calls first, and one with
    parameters and result, called afterwards. Only the second is checked. So a function that refuses what it cannot use
    does so in its own words, which tests compare, and one that took a wrong type without an error is found out.
    """
    return function if function.__annotations__.get("return") is Any else beartype(conf=HOW)(function)


def has_to_be_checked(thing: Callable[..., Any] | type) -> bool:
    """Whether a class or function is checked at its calls, by its package and its annotations."""
    if isinstance(thing, type) or thing.__module__.split(".")[1] in NUMBERS:
        return True
    return any(ARRAYS.search(str(annotation)) for annotation in thing.__annotations__.values())


def checked_in_part(plain: Callable[..., Any], check: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
    """The first calls in a test are those of ``check(plain)``, and one in :data:`EVERY` thereafter.

    To make that takes milliseconds, so it is made at the first call that is checked.
    """
    key, checked = id(plain.__code__), None

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        CALLS[key] = number = CALLS[key] + 1
        if number > FIRST and number % EVERY:
            return plain(*args, **kwargs)
        if checked is None:
            checked = check(plain)
        return checked(*args, **kwargs)

    return call


def jaxtyped_where_needed(**options: Any) -> Callable[..., Any]:
    """What the import hook decorates with: jaxtyping's own decorator, used on part of the calls, or nothing."""
    decorate = JAXTYPED(**options)

    def decorated(thing: Any) -> Any:
        if not has_to_be_checked(thing):
            return thing
        if not isinstance(thing, type):
            return checked_in_part(thing, decorate) if isinstance(thing, FunctionType) else decorate(thing)
        plain = thing.__init__
        decorate(thing)  # a dataclass gets another __init__, any other class stays as it is
        if thing.__init__ is not plain:
            whole = thing.__init__
            thing.__init__ = checked_in_part(plain, lambda _: whole)
        return thing

    return decorated


JAXTYPED: Final = jaxtyping.jaxtyped


def check_annotations() -> None:
    """Install the hook; call it before anything of the package is imported.

    beartype checks one entry of a list, which it picks by Python's own generator. It is given another one: tests find
    that a measurement leaves every generator as it was, and Hypothesis draws from that of Python.
    """
    codemain.getrandbits = random.Random(0).getrandbits
    jaxtyping.jaxtyped = jaxtyped_where_needed
    checked = modules()
    installed = install_import_hook(checked, "type_checks.after_the_call")
    installed.hook.should_instrument = frozenset(checked).__contains__  # else each import is compared with all of them
    # Warnings point at the first line outside of the package, which is not one of the functions around ours either.
    from edgescope import notices

    notices._INSIDE = (*notices._INSIDE, *AROUND)


def modules() -> list[str]:
    """All modules of packages but those with functions that cannot be wrapped."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        known = len(parts) > 2 and parts[-1] != "__init__"
        name = ".".join(parts)
        if known and name not in MEASURED and not LEFT_OUT.search(path.read_text(encoding="utf-8")):
            found.append(name)
    return found
