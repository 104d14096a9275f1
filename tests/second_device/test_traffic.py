"""How often the host waits for a device: a stated number of times a block of products, never once a vector.

A wait is also a copy to the device that the host waits for; ``traffic().places`` says where they are. Each test fails
as soon as one more is added. What is not reached yet: eigenpairs should wait once a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from second_device import Traffic, second_device, traffic
from second_device_problem import CROSS_ENTROPY, data, network, objective

import edgescope as es
from edgescope.linalg import frobenius
from edgescope.store import save_checkpoint
from edgescope.training.gradients import FromBatches

BLOCK = 3
"""Waits of a block of products, of any width: whether the parameters are new, the vectors and products finite."""

EIGENPAIRS = 14.5
"""Waits a product: small matrices of the eigen-solver are on the CPU."""


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


def counted(work: Callable[[], Any]) -> Traffic:
    with traffic() as found:
        work()
    return found


def ready(device: torch.device) -> es.Objective:
    """An objective whose checks and graphs are made."""
    there = objective(device, "kept")
    there.hvp(torch.ones(there.size, 8, dtype=torch.float64, device=device))
    return there


def test_products_wait_once_a_block(device: torch.device) -> None:
    there = ready(device)
    V = torch.ones(there.size, 8, dtype=torch.float64, device=device)
    for block in (V[:, :1], V):
        found = counted(lambda block=block: there.operator() @ block)
        assert (found.to_host, found.to_device) == (0, 0)
        assert found.waits <= BLOCK, found.places
    assert counted(there.gradient).waits <= 2


@pytest.mark.parametrize("probes", [1, 8])
def test_a_lanczos_spectrum_waits_once_a_step_beside_its_products(probes: int, device: torch.device) -> None:
    there = ready(device)
    found = counted(lambda: es.spectrum(there, method="slq", probes=probes, steps=10))
    beside = 3  # the probes go there, the coefficients come back, and whether parameters are new is asked once more
    assert found.waits <= 10 * (BLOCK + 1) + beside, found.places
    assert found.to_device <= 1


@pytest.mark.parametrize("estimate", [es.trace, frobenius])
def test_a_trace_waits_no_more_for_more_vectors(estimate: Callable[..., Any], device: torch.device) -> None:
    there = ready(device)
    few, many = (counted(lambda n=n: estimate(there, num_matvecs=n, block=16)) for n in (6, 24))
    assert many.waits <= few.waits <= 23, few.places


def test_eigenpairs_wait_no_more_than_now(device: torch.device) -> None:
    there = ready(device)
    with traffic() as found:
        products = es.top_eigenpairs(there, k=2).products
    assert found.waits <= EIGENPAIRS * products, found.places


def test_lyapunov_exponents_wait_for_steps_not_for_vectors(device: torch.device) -> None:
    there = ready(device)
    for k in (1, 4):
        found = counted(lambda k=k: es.lyapunov_exponents(there, k, lr=0.1, steps=5))
        assert found.to_host == 5  # the growth of each step
        assert found.waits <= 5 * 8 + 2, found.places


def test_training_on_mini_batches_copies_once_an_epoch(device: torch.device) -> None:
    inputs, targets = (tensor.to(device) for tensor in data())
    gradients = FromBatches(network().to(device), CROSS_ENTROPY, (inputs, targets), size=8, seed=0)
    found = counted(lambda: [gradients.compute(step) for step in range(6)])
    assert (found.waits, found.to_host, found.to_device) == (2, 0, 2), found.places  # the order of each epoch


def test_a_checkpoint_waits_once(device: torch.device, tmp_path: Any) -> None:
    tensors = {name: p.detach() for name, p in network().to(device).named_parameters()}
    found = counted(lambda: save_checkpoint(tmp_path, 1, tensors, {}))
    assert (found.waits, found.to_host) == (1, len(tensors)), found.places
