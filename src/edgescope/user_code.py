"""User modules and functions by name; their errors become one line."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from edgescope.errors import EdgescopeError, InputError


def import_module(name: str) -> ModuleType:
    """Import a user module by its dotted name, with the working directory on the path; InputError if it fails."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    with wrap_user_errors(f"importing module '{name}'"):
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"no module '{name}'", expected="a dotted name such as package.module")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise InputError(
                f"no module '{name}'",
                expected="a module that Python finds from the working directory",
                hint="its dotted name without .py",
            ) from error


def function_named(name: str, given_as: str, returns: str) -> Callable[[], Any]:
    """The function named ``module:function``; InputError if there is none.

    ``given_as`` names the option in error messages, and ``returns`` what such a function must return.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"{given_as} '{name}'", expected="module:function")
    module = import_module(module_name)
    function = getattr(module, attribute, None)
    if not callable(function):
        what = "no function" if function is None else f"a {type(function).__name__}, not a function,"
        known = ", ".join(n for n, thing in vars(module).items() if getattr(thing, "__module__", "") == module_name)
        raise InputError(
            f"module '{module_name}' has {what} '{attribute}'",
            expected=f"a function that returns {returns}",
            hint=f"one of {known[:200]}" if known else None,
        )
    return function


@contextlib.contextmanager
def wrap_user_errors(doing: str) -> Iterator[None]:
    """A context for user code, which turns an exception into an InputError of one line with its type and place."""
    try:
        yield
    except EdgescopeError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        raise InputError(f"{doing} raised {describe_exception(error)}{where}") from error


def describe_exception(error: BaseException) -> str:
    """An exception as one line of at most about 300 characters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:300]} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
