"""How often the host waits for a device: a stated number of times a block of products, never once a vector.

A wait is also a copy to the device that the host waits for; ``traffic().places`` says where they are. Each test fails
as soon as one more is added.
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

BLOCK = 2
"""Waits of a block of products, of any width: whether the parameters are new, and whether the products are finite."""

EIGENPAIRS = 3
"""Waits of an eigen-solve from nothing beside one for each product: whether the parameters are new, and what the random
vectors have in common with the basis, those of the start and that of the audit. A further audit, and a sweep more than
the two that are made unseen, which hardly ever has to follow, would each be one more."""

UPDATE = 4
"""Waits of an update of a tracker beside one for each product: whether the parameters are new, what the start vectors
have in common, what is left of that once they are orthonormal, and whether the first products at new parameters are
finite. Their products, nearly dependent, too, are one block with two waits. An update of 3 products has 7."""

ASCENT = 0.65
"""Waits of a generalized sharpness in the maximum norm for each product; its blocks have 8 of them, and bounds 1."""


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


def counted(work: Callable[[], Any]) -> Traffic:
    with traffic() as found:
        work()
    return found


def ready(device: torch.device, path: str = "kept", widths: tuple[int, ...] = (6, 4, 3)) -> es.Objective:
    """An objective whose checks and graphs are made."""
    there = objective(device, path, widths)
    for width in (1, 8):
        there.hvp(torch.ones(there.size, width, dtype=torch.float64, device=device))
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
def test_a_lanczos_spectrum_waits_once_a_step(probes: int, device: torch.device) -> None:
    there = ready(device)
    found = counted(lambda: es.spectrum(there, method="slq", probes=probes, steps=10))
    beside = 3  # the probes go there, the coefficients come back, and whether the parameters are new
    assert found.waits <= 10 + beside, found.places
    assert found.to_device <= 1


@pytest.mark.parametrize("estimate", [es.trace, frobenius])
def test_a_trace_waits_no_more_for_more_vectors(estimate: Callable[..., Any], device: torch.device) -> None:
    there = ready(device)
    few, many = (counted(lambda n=n: estimate(there, num_matvecs=n, block=16)) for n in (6, 24))
    assert many.waits <= few.waits <= 16, few.places


@pytest.mark.parametrize("path", ["kept", "rebuilt", "forward"])
@pytest.mark.parametrize("k", [1, 2, 6])
def test_eigenpairs_wait_once_an_expansion(k: int, path: str, device: torch.device) -> None:
    there = ready(device, path, (6, 16, 3))
    metric = es.linalg.DiagonalMetric(torch.linspace(0.5, 2, there.size, dtype=torch.float64, device=device))
    for options in ({}, {"which": "both"}, {"metric": metric}):
        with traffic() as found:
            products = es.top_eigenpairs(there, k=k, **options).products
        assert found.waits <= products + EIGENPAIRS, found.places


def test_eigenpairs_in_blocks_wait_twice_a_block(device: torch.device) -> None:
    there = ready(device, widths=(6, 16, 3))
    with traffic() as found:
        products = es.top_eigenpairs(there, k=2, block=4).products
    assert found.waits <= 2 * (products // 4 + EIGENPAIRS), found.places


@pytest.mark.parametrize("k", [1, 3])
def test_a_tracker_waits_once_a_product_beside_its_start(k: int, device: torch.device) -> None:
    there = ready(device, widths=(6, 16, 3))
    tracker = es.EigenTracker(there, k=k)
    tracker.update()
    for _ in range(5):
        there.assign(there.parameters() - 0.05 * there.gradient())
        with traffic() as found:
            products = tracker.update().products
        assert found.waits <= products + UPDATE, found.places


def test_a_bound_waits_once_a_step(device: torch.device) -> None:
    bound = es.linalg.EigenvalueBound(ready(device), max_steps=20)
    found = counted(lambda: bound.extend(10))
    assert found.waits <= 10 + 1, found.places  # whether the parameters are new


def test_a_generalized_sharpness_waits_no_more_than_now(device: torch.device) -> None:
    there = ready(device, widths=(6, 16, 3))
    with traffic() as found:
        products = es.generalized_sharpness(there, es.geometry.Linf()).products
    assert found.waits <= ASCENT * products, found.places


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
