"""The objective that a function of the user's makes, with the weights of a checkpoint in its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from edgescope.cli.command import import_module
from edgescope.cli.failure import told
from edgescope.cli.weights import Weights, put_weights
from edgescope.errors import InputError
from edgescope.objective import Objective


def user_function(name: str) -> Callable[[], Any]:
    """The function that ``module:function`` names; InputError where there is none."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"--objective '{name}'", expected="module:function")
    module = import_module(module_name)
    function = getattr(module, attribute, None)
    if not callable(function):
        what = "no function" if function is None else f"a {type(function).__name__}, no function,"
        known = ", ".join(n for n, thing in vars(module).items() if getattr(thing, "__module__", "") == module_name)
        raise InputError(
            f"module '{module_name}' has {what} '{attribute}'",
            expected="a function without arguments that returns an edgescope.Objective, or (model, loss_fn, data)",
            hint=f"one of {known[:200]}" if known else None,
        )
    return function


def loaded_objective(name: str, weights: Weights, dtype: torch.dtype | None) -> Objective:
    """What ``module:function`` returns, an Objective or (model, loss_fn, data), at ``weights``."""
    function = user_function(name)
    with told(f"objective function '{name}'"):
        made = function()
    if isinstance(made, Objective):
        if dtype not in (None, made.dtype):
            raise InputError(
                f"'{name}' returns an Objective that measures in {made.dtype}, not {dtype}",
                expected="(model, loss_fn, data) beside --dtype",
                hint=f"Objective(..., dtype={dtype}) there",
            )
        put_weights(weights, made.model)
        return made
    if not (isinstance(made, tuple | list) and len(made) == 3 and isinstance(made[0], nn.Module) and callable(made[1])):
        raise InputError(
            f"objective function '{name}' returned a {type(made).__name__}",
            expected="an edgescope.Objective, or (model, loss_fn, data)",
        )
    model, loss_fn, data = made
    put_weights(weights, model)
    with told(f"the model or loss that '{name}' returns"):
        return Objective(model, loss_fn, data, dtype=dtype)
