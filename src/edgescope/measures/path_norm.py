"""The path norm: the product of the weights along a path through the network, over all paths."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading
from edgescope.objective import Objective
from edgescope.objective.samples import first_sample

_ACTIVATIONS: Final = (nn.CELU, nn.ELU, nn.GELU, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.ReLU, nn.SELU, nn.SiLU, nn.Tanh)
_NORMALISATIONS: Final = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.RMSNorm)


@dataclass
class PathNorm(Measure):
    """The root of the sum, over all paths from an input or a bias to an output, of the squared weights' products.

    Computed as the network of squared weights at inputs of 1, in float64, with activations left out (as if all were
    linear); maximum pooling passes on the largest. Does not change when weights of one layer are multiplied and those
    of the next divided. Not for networks with normalisation, attention, or recurrence, nor with activations that are
    called as functions and are no ReLU: there the squared network is not homogeneous in inputs and biases, which is
    checked. Cost: two forward passes of one sample.
    """

    name: ClassVar[str] = "path_norm"
    title: ClassVar[str] = "Path norm"
    unit: ClassVar[str] = "parameters multiplied along a path"
    source: ClassVar[str] = "Neyshabur et al. 2015 (arXiv 1503.00036); Jiang et al. 2020 (arXiv 1912.02178)"
    needs: ClassVar[Needs] = "nothing"

    def read(self, moment: Moment) -> Reading:
        objective = moment.objective
        for name, part in objective.model.named_modules():
            if isinstance(part, _NORMALISATIONS):
                raise NotKnownError(f"the path norm of a network with {type(part).__name__} ('{name}') is not known")
        once, twice = _sum_of_paths(objective, 1.0), _sum_of_paths(objective, 2.0)
        if not math.isfinite(once):
            raise NotKnownError("the path norm is not finite")
        if not math.isclose(twice, 2 * once, rel_tol=1e-9):
            raise NotKnownError(
                "the path norm is not known, since the squared network is not homogeneous in inputs and biases",
                expected="linear layers, convolutions and activations alone",
            )
        return Reading(self.name, {"": math.sqrt(once)})


def _sum_of_paths(objective: Objective, scale: float) -> float:
    """The outputs of the network of squared weights, all inputs and biases ``scale`` times as large."""
    loss_fn = objective.loss_fn
    if not hasattr(loss_fn, "outputs"):
        raise NotKnownError(
            "this loss function does not separate outputs and criterion, which a path norm needs",
            hint="edgescope.supervised(criterion)",
        )
    squared = _squared(objective.model, scale)
    ones = pytree.tree_map(lambda leaf: _filled(leaf, scale), first_sample(objective))
    with torch.no_grad():
        outputs: Tensor = loss_fn.outputs(squared, ones)
    return float(outputs.sum())


def _squared(model: nn.Module, bias_scale: float) -> nn.Module:
    twin = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, tensor in twin.named_parameters():
            tensor.square_()
            if name.rpartition(".")[2].startswith("bias"):
                tensor.mul_(bias_scale)
    for part in list(twin.modules()):
        for name, child in part.named_children():
            if isinstance(child, _ACTIVATIONS):
                setattr(part, name, nn.Identity())
    return twin


def _filled(leaf: object, value: float) -> object:
    real = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return torch.full_like(leaf, value, dtype=torch.float64) if real else leaf  # type: ignore[arg-type]
