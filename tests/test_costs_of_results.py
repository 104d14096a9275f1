"""The seconds and products that results state are those of their own call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

import edgescope as es
from edgescope.linalg import Operator

MATRIX = torch.diag(torch.linspace(0.1, 2, 40, dtype=torch.float64))
CALLS: dict[str, Callable[[Operator], Any]] = {
    "eigenpairs": lambda operator: es.top_eigenpairs(operator, k=2),
    "tracker": lambda operator: es.EigenTracker(operator, k=2).update(),
    "spectrum": lambda operator: es.spectrum(operator, method="slq", probes=2, steps=5),
    "all eigenvalues": lambda operator: es.spectrum(operator, method="exact"),
    "trace": lambda operator: es.trace(operator, num_matvecs=6),
    "generalized sharpness": lambda operator: es.generalized_sharpness(operator, "linf"),
    "dimension": lambda operator: es.sharpness_dimension(operator, lr=0.7, method="slq", probes=2, steps=5),
}


def operator() -> Operator:
    return Operator(40, lambda block: MATRIX @ block, dtype=torch.float64)


@pytest.mark.parametrize("name", CALLS)
def test_seconds_are_no_more_than_the_call_took(name: str) -> None:
    used = operator()
    began = time.perf_counter()
    found = CALLS[name](used)
    assert 0 <= found.seconds <= time.perf_counter() - began


@pytest.mark.parametrize("name", CALLS)
def test_products_of_earlier_calls_are_not_counted(name: str) -> None:
    used = operator()
    first, second = CALLS[name](used), CALLS[name](used)
    assert used.products == first.products + second.products
    assert first.products > 0
