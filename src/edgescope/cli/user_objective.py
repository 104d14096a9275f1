"""The objective that a function of the user's makes, with the weights of a checkpoint in its model."""

from __future__ import annotations

import torch
from torch import nn

from edgescope.cli.weights import Weights, put_weights
from edgescope.errors import InputError
from edgescope.objective import Objective, in_mode
from edgescope.objective.checks import as_loss
from edgescope.objective.modes import Mode
from edgescope.user_code import function_named, wrap_user_errors


def loaded_objective(
    name: str, weights: Weights, dtype: torch.dtype | None, mode: Mode | None = None, device: str | None = None
) -> Objective:
    """What ``module:function`` returns, an Objective or (model, loss_fn, data), at ``weights``, in ``mode``, and on
    ``device``; where the function put it if that is None."""
    function = function_named(name, "--objective", "an edgescope.Objective, or (model, loss_fn, data)")
    with wrap_user_errors(f"objective function '{name}'"):
        made = function()
    if isinstance(made, Objective):
        if dtype not in (None, made.dtype):
            raise InputError(
                f"'{name}' returns an Objective that measures in {made.dtype}, not {dtype}",
                expected="(model, loss_fn, data) with --dtype",
                hint=f"Objective(..., dtype={dtype}) there",
            )
        if device is not None and torch.empty(0, device=made.device).device != torch.empty(0, device=device).device:
            raise InputError(
                f"'{name}' returns an Objective that measures on {made.device}, not {device}",
                expected="(model, loss_fn, data) with --device",
                hint=f'Objective(..., device="{device}") there',
            )
        put_weights(weights, made.model)
        return made if mode is None else in_mode(made, mode)
    if not (isinstance(made, tuple | list) and len(made) == 3 and isinstance(made[0], nn.Module) and callable(made[1])):
        raise InputError(
            f"objective function '{name}' returned a {type(made).__name__}",
            expected="an edgescope.Objective, or (model, loss_fn, data)",
        )
    model, loss_fn, data = made
    if device is not None:
        model.to(device)  # in place, so that the state of an optimizer lies there too
    put_weights(weights, model)
    with wrap_user_errors(f"the model or loss that '{name}' returns"):
        return Objective(model, as_loss(loss_fn), data, dtype=dtype, mode=mode or "auto")
