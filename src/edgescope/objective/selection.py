"""The parameters that an objective is a function of: all trainable ones, or those selected by name or module."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.near_names import suggestion

Chosen = str | Tensor | nn.Module | torch.optim.Optimizer
Params = Chosen | Iterable[Chosen]


_EXPECTED = "names with wildcards, modules, optimizers or parameters of the model"


@dataclass(frozen=True)
class ParameterSelection:
    """Chooses parameters by their names, also those that a layer gets later.

    ``names`` are chosen as they are, ``patterns`` as in a shell ("blocks.*.attn.*", where * stands for dots too).
    """

    names: frozenset[str]
    patterns: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        return name in self.names or (
            isinstance(name, str) and any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)
        )


def selection(model: nn.Module, params: Params | None) -> ParameterSelection | None:
    """The selection that ``params`` describes: names with wildcards, parts of the model, optimizers, its parameters
    themselves, or several of these.

    A tied parameter is chosen by any of its names. None chooses everything. Raises :class:`InputError` where something
    in ``params`` chooses no parameter of the model.
    """
    if params is None:
        return None
    wanted = [params] if isinstance(params, str | Tensor | nn.Module | torch.optim.Optimizer) else params
    if not isinstance(wanted, Iterable):
        raise InputError(f"params of type {type(params).__name__}", expected=_EXPECTED)
    wanted = list(wanted)
    if not wanted:
        raise InputError("params is empty", expected=_EXPECTED, hint="params=None, which chooses all parameters")
    first: dict[int, str] = {}
    aliases: list[tuple[str, str]] = []  # every name of a parameter, and its first one
    for name, tensor in model.named_parameters(remove_duplicate=False):
        aliases.append((name, first.setdefault(id(tensor), name)))
    names: set[str] = set()
    patterns: list[str] = []
    for thing in wanted:
        if isinstance(thing, str):
            found = {canonical for name, canonical in aliases if fnmatch.fnmatchcase(name, thing)}
            patterns.append(thing)
        elif isinstance(thing, nn.Module):
            found = {first[id(p)] for p in thing.parameters() if id(p) in first}
        elif isinstance(thing, torch.optim.Optimizer):
            held = (p for group in thing.param_groups for p in group["params"])
            found = {first[id(p)] for p in held if id(p) in first}
        elif isinstance(thing, Tensor):
            found = {first[id(thing)]} if id(thing) in first else set()
        else:
            raise InputError(f"params with something of type {type(thing).__name__}", expected=_EXPECTED)
        if not found:
            raise _nothing_chosen(thing, [name for name, _ in aliases])
        names |= found
    return ParameterSelection(frozenset(names), tuple(patterns))


def _nothing_chosen(thing: Chosen, names: list[str]) -> InputError:
    if not isinstance(thing, str):
        verb = "is" if isinstance(thing, Tensor) else "has"
        return InputError(
            f"the {type(thing).__name__} in params {verb} no parameter of the model",
            expected="a part of this model, one of its parameters, or an optimizer of them",
        )
    some = ", ".join(names[:4]) + (" and more" if len(names) > 4 else "")
    return InputError(
        f"no parameter of the model matches '{thing}'",
        expected=f"names such as {some}",
        hint=suggestion(thing, names),
    )
