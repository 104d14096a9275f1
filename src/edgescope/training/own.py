"""Model, loss function and data returned by a function of the user."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from edgescope.errors import InputError
from edgescope.store.rng import rng_state, set_rng_state
from edgescope.user_code import function_named, wrap_user_errors

RETURNS: Final = "(model, loss_fn, data), (model, loss_fn, data, test), or a dict with these names and stop_loss"


@dataclass(frozen=True)
class Own:
    """The result of ``module:function``: a tuple in this order, or a dict with these keys.

    ``model`` carries its initial parameters, which every run of a sweep starts from. ``loss_fn(model, batch)`` is the
    mean loss of a batch, or a criterion of torch for batches of inputs and targets; ``data`` and ``test`` are what
    :class:`edgescope.Objective` takes: one batch, a DataLoader, or any re-iterable. ``stop_loss`` is the training loss
    at which a run may stop.
    """

    model: nn.Module
    loss_fn: Any
    data: Any
    test: Any = None
    stop_loss: float | None = None


def arguments_of(name: str) -> dict[str, int | float | str]:
    """The arguments in ``module:function:width=64,act=relu``; none in ``module:function``.

    Values are whole numbers, other numbers, or else text. Raises :class:`InputError` for anything but name=value.
    """
    found: dict[str, int | float | str] = {}
    for piece in name.split(":", 2)[2].split(",") if name.count(":") > 1 else ():
        key, equals, text = (part.strip() for part in piece.partition("="))
        if not (equals and key.isidentifier() and text) or key in found:
            raise InputError(f"function '{name}'", expected="module:function, or module:function:argument=value")
        value: int | float | str = text
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                value = kind(text)
                break
        found[key] = value
    return found


def call_by_name(name: str, seed: int, returns: str, /, **further: Any) -> Any:
    """Call ``module:function`` with the arguments in its name and ``further`` ones, after seeding torch.

    ``returns`` says in error messages what such a function returns. Random generators are left as they were. Raises
    :class:`InputError` if there is no such function, if it does not take these arguments, or if it raises.
    """
    given = arguments_of(name) | further
    function = function_named(":".join(name.split(":", 2)[:2]), "function", returns)
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        raise InputError(
            f"function '{name}' cannot be called: {error}", expected=f"a function that takes {', '.join(given)}"
        ) from error
    except ValueError:  # a callable without a signature
        pass
    before = rng_state()
    torch.manual_seed(seed)
    try:
        with wrap_user_errors(f"function '{name}'"):
            return function(**given)
    finally:
        set_rng_state(before)


def made_by(name: str, seed: int) -> Own:
    """Call ``module:function`` after ``torch.manual_seed(seed)``, so that every call gives the same initial parameters.

    Arguments by name may follow, as in ``module:function:width=64``. Raises :class:`InputError` if there is no such
    function, if it does not take these arguments, if it raises, or if it returns something else.
    """
    made = call_by_name(name, seed, RETURNS)
    fields = [field.name for field in dataclasses.fields(Own)]
    if isinstance(made, tuple | list) and len(made) in (3, 4):
        made = dict(zip(fields, made, strict=False))
    if not isinstance(made, Mapping):
        length = f" of {len(made)}" if isinstance(made, tuple | list) else ""
        raise InputError(f"function '{name}' returned a {type(made).__name__}{length}", expected=RETURNS)
    unknown, missing = sorted(set(made) - set(fields)), [key for key in fields[:3] if key not in made]
    if unknown or missing:
        fault = f"with '{unknown[0]}'" if unknown else f"without '{missing[0]}'"
        raise InputError(f"function '{name}' returned a dict {fault}", expected=f"the keys {', '.join(fields)}")
    model, stop = made["model"], made.get("stop_loss")
    if not isinstance(model, nn.Module) or not callable(made["loss_fn"]):
        what = "model" if not isinstance(model, nn.Module) else "loss_fn"
        kind = "a torch.nn.Module" if what == "model" else "a function loss_fn(model, batch)"
        raise InputError(f"function '{name}' returned a {what} of type {type(made[what]).__name__}", expected=kind)
    trained = [p.dtype for p in model.parameters() if p.requires_grad]
    low = next((dtype for dtype in trained if dtype.itemsize < 4), None)
    if low is not None:
        # The gradient of an objective is float32 or float64, which such parameters do not take back.
        raise InputError(
            f"function '{name}' returned a model with {str(low).removeprefix('torch.')} parameters",
            expected="float32 or float64",
            hint="model.float(), and autocast in loss_fn",
        )
    if stop is not None and not (isinstance(stop, int | float) and math.isfinite(stop)):
        raise InputError(f"function '{name}' returned stop_loss = {stop!r}", expected="a finite number or None")
    return Own(**made)
