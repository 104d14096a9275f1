"""A small network and its data, wherever they are to lie, for the tests on a second device and on accelerators."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.objective.plan import PathName

CROSS_ENTROPY = es.supervised(nn.functional.cross_entropy)
PATHS = [path for path in get_args(PathName) if path != "compiled"]  # there is no compiler for the second device


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(24, 6, dtype=torch.float64, generator=generator)
    return inputs, torch.randint(3, (24,), generator=generator)


def network(widths: tuple[int, ...] = (6, 4, 3)) -> nn.Module:
    torch.manual_seed(0)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def objective(where: torch.device | str, path: str = "rebuilt", widths: tuple[int, ...] = (6, 4, 3)) -> es.Objective:
    inputs, targets = data()
    model = network(widths).to(where)
    return es.Objective(model, CROSS_ENTROPY, (inputs.to(where), targets.to(where)), path=path)


def numbers(found: Any) -> Tensor:
    """What was found, whatever its form, as one vector on the CPU."""
    if isinstance(found, Tensor):
        return found.detach().cpu().double().flatten()
    return torch.tensor([float(value) for value in (found if isinstance(found, list) else [found])])


def assert_same(found: Any, wanted: Any) -> None:
    """Equal but for the order in which sums are added, which depends on how torch takes an operation apart."""
    torch.testing.assert_close(numbers(found), numbers(wanted), rtol=1e-10, atol=1e-13)
