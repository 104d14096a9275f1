"""Options of an optimizer that its update rule does not account for: they may change its steps, so it has none."""

from __future__ import annotations

from collections.abc import Collection

import torch

from edgescope.errors import NotKnownError


def check_options(optimizer: torch.optim.Optimizer, known: Collection[str]) -> None:
    """Raise :class:`NotKnownError` unless the constructor's options are among the ``known`` ones, and none is missing.

    Options that are None, False or 0 change nothing. What a user or a scheduler adds to a parameter group is no option
    of the constructor, and is left alone.
    """
    name = type(optimizer).__name__
    for option, default in optimizer.defaults.items():
        values = [default, *(group.get(option) for group in optimizer.param_groups)]
        if option not in known and any(not isinstance(v, int | float | None) or v for v in values):
            raise NotKnownError(
                f"the update rule of {name} with the option {option} is not known",
                expected=f"only options among {', '.join(sorted(known))}",
                hint="the measure headroom, which needs no rule",
            )


def check_present(optimizer: torch.optim.Optimizer, needed: Collection[str]) -> None:
    """Raise :class:`NotKnownError` where a parameter group lacks an option: another optimizer has the same name."""
    for group in optimizer.param_groups:
        missing = sorted(option for option in needed if option not in group)
        if missing:
            raise NotKnownError(
                f"the update rule of this {type(optimizer).__name__}, which has no option {missing[0]}, is not known",
                hint="edgescope.optim.add_rule with a rule of your own",
            )
