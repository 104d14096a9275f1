"""The seconds that results state are part of those that their call took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

import edgescope as es

MATRIX = torch.diag(torch.linspace(0.1, 2, 40, dtype=torch.float64))
CALLS: dict[str, Callable[[], Any]] = {
    "eigenpairs": lambda: es.top_eigenpairs(MATRIX, k=2),
    "tracker": lambda: es.EigenTracker(MATRIX, k=2).update(),
    "spectrum": lambda: es.spectrum(MATRIX, method="slq", probes=2, steps=5),
    "trace": lambda: es.trace(MATRIX, num_matvecs=6),
    "generalized sharpness": lambda: es.generalized_sharpness(MATRIX, "linf"),
    "dimension": lambda: es.sharpness_dimension(MATRIX, lr=0.7),
}


@pytest.mark.parametrize("name", CALLS)
def test_they_are_no_more_than_the_call_took(name: str) -> None:
    began = time.perf_counter()
    found = CALLS[name]()
    assert 0 <= found.seconds <= time.perf_counter() - began
