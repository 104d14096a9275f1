"""Every result says how the model computed while it was measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import edgescope as es
from edgescope.errors import EdgescopeWarning, InputError
from edgescope.linalg import DiagonalMetric, frobenius
from edgescope.losses import half_mse
from edgescope.objective import in_mode, mini_batches
from edgescope.phases import barrier, scan

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def objective(mode: str) -> es.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    data = (torch.randn(16, 3, dtype=torch.float64), torch.randn(16, 2, dtype=torch.float64))
    loss = es.supervised(half_mse)
    return es.Objective(model, loss, data, mode=mode, path="rebuilt", threads=1)  # type: ignore[arg-type]


def scanned(watched: es.Objective) -> Any:
    return scan(watched, [1e-3, 1e-2], lr=0.1, steps=2, refine=0)


RESULTS: dict[str, Callable[[es.Objective], Any]] = {
    "operator": lambda watched: watched.operator(),
    "Gauss-Newton": lambda watched: watched.operator(kind="gauss-newton"),
    "mini-batch": lambda watched: next(mini_batches(watched, 8)),
    "top_eigenpairs": lambda watched: es.top_eigenpairs(watched),
    "top_eigenpairs, metric": lambda watched: es.top_eigenpairs(
        watched, metric=DiagonalMetric(torch.ones(watched.size))
    ),
    "EigenTracker": lambda watched: es.EigenTracker(watched).update(),
    "trace": lambda watched: es.trace(watched, num_matvecs=6),
    "exact trace": lambda watched: es.trace(watched, num_matvecs=120),
    "frobenius": lambda watched: frobenius(watched, num_matvecs=6),
    "spectrum": lambda watched: es.spectrum(watched, probes=1, steps=4),
    "exact spectrum": lambda watched: es.spectrum(watched, method="exact"),
    "deflated spectrum": lambda watched: es.spectrum(watched, probes=1, steps=4, deflate=2),
    "euclidean": lambda watched: es.generalized_sharpness(watched, "euclidean"),
    "diagonal": lambda watched: es.generalized_sharpness(watched, "diagonal"),
    "linf": lambda watched: es.generalized_sharpness(watched, "linf", restarts=1),
    "blocks": lambda watched: es.generalized_sharpness(watched, "blocks", restarts=1),
    "spectral": lambda watched: es.generalized_sharpness(watched, "spectral", restarts=1),
    "directional_smoothness": lambda watched: es.directional_smoothness(
        watched, watched.parameters(), watched.parameters() + 0.1
    ),
    "smoothness by products": lambda watched: es.directional_smoothness(
        watched, watched.parameters(), watched.parameters() + 0.1, method="products"
    ),
    "sharpness_dimension": lambda watched: es.sharpness_dimension(watched, lr=0.5),
    "dimension of mini-batches": lambda watched: es.sharpness_dimension(watched, lr=0.5, batch_size=8, batches=2),
    "dimension of a spectrum": lambda watched: es.sharpness_dimension(es.spectrum(watched, method="exact"), lr=0.5),
    "lyapunov_exponents": lambda watched: es.lyapunov_exponents(watched, lr=0.1, steps=2, k=1),
    "barrier": lambda watched: barrier(watched, watched.parameters(), -watched.parameters(), images=2, steps=1),
    "scan": scanned,
}


@pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")
@pytest.mark.parametrize(("mode", "used"), [("auto", "batch-statistics"), ("eval", "eval"), ("train", "train")])
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_says_which_mode_was_used(name: str, mode: str, used: str) -> None:
    assert RESULTS[name](objective(mode)).mode == used


def test_what_is_measured_of_a_matrix_has_no_mode() -> None:
    matrix = torch.diag(torch.arange(1.0, 30.0))
    results = (
        es.top_eigenpairs(matrix),
        es.trace(matrix),
        es.spectrum(matrix),
        es.generalized_sharpness(matrix, "linf"),
    )
    assert [result.mode for result in results] == [None] * len(results)


def test_spectra_of_different_modes_are_not_merged() -> None:
    watched = objective("auto")
    with pytest.raises(InputError, match=r"merging spectra of different mode \(batch-statistics, eval\)"):
        es.spectrum(watched, probes=1).merge(es.spectrum(in_mode(watched, "eval"), probes=1))


def test_a_record_keeps_the_mode_of_its_objective() -> None:
    for mode, used in (("auto", "batch-statistics"), ("eval", "eval")):
        watched = objective(mode)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EdgescopeWarning)  # of eval beside an optimizer
            monitor = es.Monitor(watched, torch.optim.SGD(watched.tensors, lr=0.1))
        assert monitor.record.info["measured"]["mode"] == used
