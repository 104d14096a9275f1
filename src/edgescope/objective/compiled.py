"""The derivative path that is traced once and compiled: slow to build, fast to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from edgescope.objective.layout import Tensors
from edgescope.objective.modules import own_deprecations_quiet
from edgescope.objective.paths import GradientGraph, Path
from edgescope.objective.problem import Point, TrainingProblem

Program = Callable[[Tensors, Tensors, Tensors, Tensors], list[Tensor]]


class Compiled(Path):
    """Reverse over reverse, traced for every shape of chunk and compiled by inductor."""

    name = "compiled"
    builds = True

    def __init__(self) -> None:
        self._programs: dict[Any, Program] = {}

    @staticmethod
    def possible() -> bool:
        """Whether this machine has the C++ compiler that inductor needs."""
        return any(shutil.which(name) for name in ("g++", "clang++", "cl"))

    def _products(self, problem: TrainingProblem, point: Point, rows: Float[Tensor, "k P"]) -> Float[Tensor, "k P"]:
        result = torch.zeros_like(rows)
        tensors, constants = [t.detach() for t in point.tensors], list(point.constants.values())
        for chunk in problem.chunks():
            leaves, form = pytree.tree_flatten(chunk.batch)
            numbers = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            # What is no tensor is part of the program.
            kinds = ((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves)
            key = (str(form), *kinds)
            with own_deprecations_quiet(), torch.compiler.set_stance("default"), torch.no_grad():
                if key not in self._programs:
                    self._programs[key] = _built(problem, point, leaves, form)
                for row, total in zip(rows, result, strict=True):
                    found = self._programs[key](tensors, constants, numbers, problem.layout.split(row))
                    total += chunk.share * problem.layout.join(found)
        return result


def _built(problem: TrainingProblem, point: Point, leaves: list[Any], form: Any) -> Program:
    from torch.fx.experimental.proxy_tensor import make_fx  # takes seconds, for this path alone

    names = list(point.constants)

    def product(tensors: Tensors, constants: Tensors, numbers: Tensors, vector: Tensors) -> list[Tensor]:
        given = iter(numbers)
        batch = pytree.tree_unflatten([next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves], form)
        inputs = [t.detach().requires_grad_() for t in tensors]
        loss = problem.loss_of(inputs, dict(zip(names, constants, strict=True)), batch)
        return list(GradientGraph(loss, inputs).product(vector))

    example = [t.detach() for t in point.tensors]
    numbers = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    # Traced to elementary operations first, so that the compiler sees neither hooks nor a user's Python. A branch that
    # is taken on a value is an error there, and not frozen into the program.
    trace = make_fx(torch.enable_grad()(product))
    vector = [torch.empty_like(t) for t in example]  # tensors of their own: the same ones would be taken for one
    return torch.compile(trace(example, list(point.constants.values()), numbers, vector), dynamic=False)
