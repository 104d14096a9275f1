"""Phases of several modes: counts against Hessians of whole networks, searches against closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import edgescope as es
from edgescope.errors import InputError
from edgescope.theory.deep_linear import Mode, PhaseDiagram
from edgescope.theory.deep_linear.search import height, search


def rotation(seed: int, size: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def curvatures(depth: int, C: np.ndarray, covariance: np.ndarray, decay: float, end_to_end: np.ndarray) -> np.ndarray:
    """Slope and Hessian eigenvalues of the loss of a balanced network of full width, relative to the decay."""
    left, sizes, right = np.linalg.svd(end_to_end, full_matrices=False)
    width, sizes = len(sizes), np.where(sizes > 1e-10 * np.abs(C).max(), sizes, 0.0)  # roots of rounding are not small
    root = np.diag(sizes ** (1 / depth))
    layers = [root @ right, *[root] * (depth - 2), left @ root]
    shapes = [layer.shape for layer in layers]
    ends = np.cumsum([layer.size for layer in layers])[:-1].tolist()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        W = torch.eye(C.shape[1], dtype=torch.float64)
        for piece, shape in zip(torch.tensor_split(weights, ends), shapes, strict=True):
            W = piece.reshape(shape) @ W
        fit = (W @ torch.tensor(covariance) * W).sum() / 2 - (torch.tensor(C) * W).sum()
        return fit + decay / 2 * (weights**2).sum()

    weights = torch.tensor(np.concatenate([layer.ravel() for layer in layers]))
    assert width == min(C.shape)
    slope = torch.autograd.functional.jacobian(loss, weights)
    assert slope.abs().max() < 1e-6 * np.abs(C).max()
    found = height(depth, C, covariance, decay, end_to_end)
    assert found == pytest.approx(float(loss(weights)), abs=1e-12)
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, weights)).numpy() / decay


def test_the_two_modes_of_the_paper() -> None:
    diagram = es.theory.deep_linear.PhaseDiagram(depth=3, signals=(0.8, 0.9))
    assert diagram.critical_decays() == pytest.approx([Mode(3, 0.9).critical_decay(), Mode(3, 0.8).critical_decay()])
    assert diagram.coexistence_decays() == pytest.approx([0.344839, 0.294723], abs=1e-6)
    counts = diagram.metastable_states([[0.1, 0.32], [0.36, 0.43]])
    assert counts.tolist() == [[3, 3], [2, 1]]
    assert diagram.rank([0.1, 0.32, 0.36]).tolist() == [2, 1, 0]  # at 0.32 rank 2 is a state, but not the lowest
    assert type(diagram.metastable_states(0.1)) is int
    assert diagram.metastable_states(np.empty((0, 2))).shape == (0, 2)
    states = diagram.states(0.32)
    mode = Mode(3, 0.9)
    assert [state.rank for state in states] == [1, 0, 2] or [state.rank for state in states] == [1, 2, 0]
    assert states[0].energy == pytest.approx(mode.barrier_up(0.32) - mode.barrier_down(0.32))
    assert states[0].map == pytest.approx(np.diag([0, mode.minimum_product(0.32)]), abs=1e-12)


@pytest.mark.parametrize("depth", [1, 2])
def test_shallow_networks_have_one_state(depth: int) -> None:
    diagram = PhaseDiagram(depth, [1.0, 0.5])
    assert diagram.metastable_states([0.1, 0.7, 2.0]).tolist() == [1, 1, 1]
    assert diagram.rank([0.1, 0.7, 2.0]).tolist() == ([2, 2, 2] if depth == 1 else [2, 1, 0])


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_states_are_the_sets_of_modes_without_downward_curvature(depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    signals = np.sort(rng.uniform(0.5, 1.0, 3))[::-1]
    variances = np.full(3, 1.3) if seed == 0 else rng.uniform(0.3, 3.0, 3)
    decay = rng.uniform(0.1, 0.8) * max(
        Mode(depth, s, v).critical_decay() for s, v in zip(signals, variances, strict=True)
    )
    turned, mixed = rotation(seed, 3), rotation(seed + 50, 3)
    C, covariance = turned @ np.diag(signals) @ mixed, mixed.T @ np.diag(variances) @ mixed
    modes = [Mode(depth, s, v) for s, v in zip(signals, variances, strict=True)]
    able = [i for i, mode in enumerate(modes) if decay < mode.critical_decay()]
    expected = []
    for on in itertools.chain.from_iterable(itertools.combinations(able, r) for r in range(len(able) + 1)):
        p = np.array([modes[i].minimum_product(decay) if i in on else 0.0 for i in range(3)])
        map_ = turned @ np.diag(p) @ mixed
        if curvatures(depth, C, covariance, decay, map_)[0] > -1e-7:
            expected.append(map_)
    diagram = PhaseDiagram(depth, C, covariance)
    assert diagram.separable
    found = [state.map for state in diagram.states(decay)]
    assert len(found) == len(expected) == diagram.metastable_states(decay)
    for map_ in expected:
        assert min(np.abs(map_ - other).max() for other in found) < 1e-10


def test_both_orders_of_learning_can_be_states_at_once() -> None:
    variances, both = np.diag([1.0, 0.75]), 0
    for signal in np.linspace(0.85, 0.9, 26):
        C = np.diag([1.0, signal])
        states = PhaseDiagram(3, C, variances).states(0.2)
        for state in states:
            assert curvatures(3, C, variances, 0.2, state.map)[0] > -1e-9
        both += sum(state.rank == 1 for state in states) == 2
    assert both > 0


@pytest.mark.parametrize(("seed", "depth", "inputs"), [(1, 3, 2), (2, 4, 2), (3, 3, 3), (4, 3, 2)])
def test_the_search_finds_the_closed_forms(seed: int, depth: int, inputs: int) -> None:
    rng = np.random.default_rng(seed)
    signals, variances = np.sort(rng.uniform(0.5, 1.0, inputs))[::-1], rng.uniform(0.5, 2.0, inputs)
    diagram = PhaseDiagram(depth, signals, variances)
    decay = 0.4 * float(diagram.critical_decays().min())
    found = search(depth, np.diag(signals), np.diag(variances), decay)
    states = diagram.states(decay)
    assert len(found) == len(states)
    for state in states:
        assert min(np.abs(state.map - map_).max() for map_ in found) < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_covariance_that_couples_the_modes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    C, root = rng.standard_normal((3, 2)), rng.standard_normal((2, 2))
    covariance = root @ root.T + 0.3 * np.eye(2)
    diagram = PhaseDiagram(3, C, covariance)
    assert not diagram.separable
    states = diagram.states(0.05)
    assert [state.energy for state in states] == sorted(state.energy for state in states)
    assert {state.rank for state in states} == {0, 1, 2}
    for state in states:
        assert curvatures(3, C, covariance, 0.05, state.map)[0] > -1e-5
    counts = diagram.metastable_states([0.05, 50.0])
    assert counts.tolist() == [len(states), 1]
    turned = PhaseDiagram(3, C @ rotation(9, 2), rotation(9, 2).T @ covariance @ rotation(9, 2))
    assert [state.energy for state in turned.states(0.05)] == pytest.approx(
        [state.energy for state in states], rel=1e-5
    )
    ridge = PhaseDiagram(1, C, covariance).states(0.05)
    assert len(ridge) == 1
    assert ridge[0].map @ (covariance + 0.05 * np.eye(2)) == pytest.approx(C)
    (soft,) = PhaseDiagram(2, C, covariance).states(0.05)
    left, _, right = np.linalg.svd(soft.map, full_matrices=False)
    assert C - soft.map @ covariance == pytest.approx(0.05 * left @ right, abs=1e-6)  # the nuclear norm's subgradient


def test_equal_signals_and_zero_signals() -> None:
    assert PhaseDiagram(3, [1.0, 1.0, 0.5, 0.0]).metastable_states([0.1, 0.3, 0.6]).tolist() == [4, 3, 1]
    assert PhaseDiagram(3, [1.0, 1.0], [1.0, 1.0]).metastable_states(0.1) == 3
    assert PhaseDiagram(3, [0.0, 0.0]).metastable_states([0.1, 1.0]).tolist() == [1, 1]
    assert PhaseDiagram(3, [0.0, 0.0]).rank(0.1) == 0
    assert PhaseDiagram(3, [0.9], 2.0).critical_decays() == pytest.approx([Mode(3, 0.9, 2.0).critical_decay()])


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: PhaseDiagram(0, [1.0]), "depth is 0"),
    (lambda: PhaseDiagram(3, 1.0), r"signals of shape \(\)"),
    (lambda: PhaseDiagram(3, [1.0, -0.5]), "a singular value of -0.5"),
    (lambda: PhaseDiagram(3, [1.0, np.inf]), r"signals\[1\] is inf"),
    (lambda: PhaseDiagram(3, [1.0, 0.5], np.eye(3)), r"covariance of shape \(3, 3\)"),
    (lambda: PhaseDiagram(3, [1.0, 0.5], [[1.0, 2.0], [2.0, 1.0]]), "not symmetric and positive definite"),
    (lambda: PhaseDiagram(3, [1.0, 0.5]).metastable_states([0.1, -1]), r"decay\[1\] is -1"),
    (lambda: PhaseDiagram(3, [1.0, 0.5]).states([0.1, 0.2]), r"decay has shape \(2,\)"),  # type: ignore[arg-type]
    (lambda: PhaseDiagram(3, [1.0, 0.5], [[1.0, 0.4], [0.4, 1.0]]).modes(), "the covariance couples the modes"),
    (lambda: PhaseDiagram(3, [1.0, 0.5], [[1.0, 0.4], [0.4, 1.0]]).critical_decays(), "couples the modes"),
    (lambda: PhaseDiagram(1, [1.0, 0.5]).critical_decays(), "depth 1 has no critical decay"),
    (lambda: PhaseDiagram(3, np.linspace(1, 2, 20), np.linspace(1, 2, 20)).states(0.01), "20 modes"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named_in_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
