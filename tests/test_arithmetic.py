"""Figures of the public functions are the same in whatever context they are asked for."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.linalg import frobenius, to_matrix
from edgescope.losses import half_mse
from edgescope.phases import barrier

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast, bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast, float16": lambda: torch.autocast("cpu", torch.float16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "anomaly mode": torch.autograd.detect_anomaly,
}


def objective() -> es.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    data = (torch.randn(12, 4), torch.randn(12, 2))
    return es.Objective(model, es.supervised(half_mse), data, path="rebuilt", threads=1)


def tracked(watched: es.Objective) -> Any:
    tracker = es.EigenTracker(watched, k=2)
    tracker.update()
    return tracker.update().values


FIGURES: dict[str, Callable[[es.Objective], Any]] = {
    "top_eigenpairs": lambda watched: es.top_eigenpairs(watched, k=3).values,
    "EigenTracker": tracked,
    "trace": lambda watched: es.trace(watched, num_matvecs=12).value,
    "frobenius": lambda watched: frobenius(watched, num_matvecs=12).value,
    "spectrum": lambda watched: es.spectrum(watched, method="slq", probes=2, steps=8).nodes,
    "exact spectrum": lambda watched: es.spectrum(watched, method="exact").nodes,
    "to_matrix": to_matrix,
    "generalized_sharpness": lambda watched: es.generalized_sharpness(watched, "spectral", restarts=1).value,
    "sharpness, linf": lambda watched: es.generalized_sharpness(watched, "linf", restarts=1).value,
    "directional_smoothness": lambda watched: (
        es.directional_smoothness(watched, watched.parameters(), watched.parameters() + 0.1).value
    ),
    "sharpness_dimension": lambda watched: es.sharpness_dimension(watched, lr=0.5, method="exact").dimension,
    "lyapunov_exponents": lambda watched: es.lyapunov_exponents(watched, lr=0.1, steps=4, k=2).exponents,
    "barrier": lambda watched: barrier(watched, watched.parameters(), -watched.parameters(), images=3, steps=3).height,
}


def numbers(figure: Any) -> Tensor:
    return torch.as_tensor(figure, dtype=torch.float64).clone()


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_in_any_context(name: str, context: str) -> None:
    plain = numbers(FIGURES[name](objective()))
    with CONTEXTS[context]():
        inside = FIGURES[name](objective())
        dense = numbers(inside)
    assert torch.equal(plain, dense)


@pytest.mark.parametrize("context", ["autocast, bfloat16", "inference_mode"])
def test_a_matrix_made_in_a_context_is_measured_by_its_entries(context: str) -> None:
    with CONTEXTS[context]() if context == "inference_mode" else contextlib.nullcontext():
        matrix = torch.diag(torch.linspace(1, 3, 40)) + 0.25
    with CONTEXTS[context]():
        pairs = es.top_eigenpairs(matrix, k=2, tol=1e-6)
        value = es.trace(matrix, num_matvecs=150).value
    truth = torch.linalg.eigvalsh(matrix.double())
    assert torch.allclose(pairs.values.double(), truth[-2:].flip(0), rtol=1e-5)
    assert value == pytest.approx(float(matrix.double().trace()), rel=1e-5)


PRECISIONS = """
import sys, torch
from edgescope.arithmetic import full_precision
backends = torch.backends
switches = (backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv, backends.cudnn.rnn)
setting = sys.argv[1]
if setting in ("high", "medium"):
    torch.set_float32_matmul_precision(setting)
elif setting == "everywhere":
    backends.fp32_precision = "tf32"
elif setting == "convolutions alone":
    backends.cudnn.conv.fp32_precision = "ieee"
before = [switch.fp32_precision for switch in switches]
with full_precision():
    assert not {switch.fp32_precision for switch in switches} & {"tf32", "bf16"}
assert [switch.fp32_precision for switch in switches] == before
"""


@pytest.mark.parametrize("setting", ["default", "high", "medium", "everywhere", "convolutions alone"])
def test_float32_is_not_rounded_and_the_settings_stay(setting: str) -> None:
    subprocess.run([sys.executable, "-c", PRECISIONS, setting], check=True)  # torch does not take some of these back
