"""The probe: what it chooses among, what it leaves alone, and what is bit for bit the same."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from objective_problems import build, reference, relative

from edgescope.objective import Objective, Plan, plan, timings
from edgescope.objective.compiled import Compiled
from edgescope.objective.graph_memory import GraphMemory
from edgescope.objective.paths import DoubleBackward, ForwardOverReverse

SMALL = GraphMemory(all_chunks=100, largest_chunk=100, vectors=10)


def objective(**options: Any) -> Objective:
    case = build("cross-entropy-8+2")
    return Objective(case.model, case.loss_fn, case.batches, **options)


def test_a_plan_says_what_was_timed() -> None:
    o = objective()
    found = o.plan(3)
    assert found.path in ("kept", "kept-batched")
    assert found.threads in (1, torch.get_num_threads())
    assert found.width == 4
    assert found.product_cost > 0
    assert found.gradient_seconds > 0
    assert o.plan(4) is found  # remembered
    assert o.plan(2) is found
    assert o.plan(1) is not found
    assert o.plan(99) is o.plan(16)


def test_what_is_timed_is_counted_apart() -> None:
    o = objective()
    checked = o.spent.preparation
    o.plan(4)
    assert o.spent.preparation > checked + 1  # a gradient, and more
    assert (o.spent.losses, o.spent.gradients, o.spent.products) == (0, 0, 0)
    o.hvp(torch.ones(o.size, 3))
    assert (o.spent.losses, o.spent.gradients, o.spent.products) == (0, 1, 3)
    o.hvp(torch.ones(o.size))
    o.gradient()
    o.loss()
    assert (o.spent.losses, o.spent.gradients, o.spent.products) == (0, 1, 4)
    o.loss(o.parameters() + 1)
    o.accuracy()
    assert o.spent.losses == 2
    rebuilt = objective(path="rebuilt")  # where a product takes its gradient with it
    rebuilt.hvp(torch.ones(o.size, 2))
    assert (rebuilt.spent.gradients, rebuilt.spent.products) == (0, 2)


def test_fixed_path_and_threads_are_respected_and_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> float:
        raise AssertionError("timed")

    monkeypatch.setattr(timings, "time", SimpleNamespace(perf_counter=never))
    for path in ("kept", "kept-batched", "rebuilt", "rebuilt-batched", "forward"):
        o = objective(path=path, threads=1)
        o.hvp(torch.ones(o.size, 3))
        o.gnvp(torch.ones(o.size))
        found = o.plan(3)
        assert (found.path, found.threads) == (path, 1)
        assert math.isnan(found.product_cost)
        assert math.isnan(found.gradient_seconds)
    with pytest.raises(AssertionError, match="timed"):
        objective().plan()


def test_only_what_was_left_open_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    used = set()
    gradient = plan.TrainingProblem.gradient

    def watched(self: Any, point: Any) -> Any:
        used.add(torch.get_num_threads())
        return gradient(self, point)

    monkeypatch.setattr(plan.TrainingProblem, "gradient", watched)
    try:
        assert objective(threads=1).plan().threads == 1
        assert used == {1}
        assert objective(threads=None).plan().threads == 2
        assert used == {1, 2}
        used.clear()
        o = objective(path="rebuilt")
        found = o.plan()
        assert used == {1, 2}
        assert found.path == "rebuilt"
        assert math.isnan(found.product_cost)
        assert found.gradient_seconds > 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("slow", "winner"), [(1, 2), (2, 1)])
def test_the_faster_number_of_threads_is_taken(slow: int, winner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timings.time, "perf_counter", lambda: clock[0])
    gradient = plan.TrainingProblem.gradient

    def timed(self: Any, point: Any) -> Any:
        clock[0] += 0.5 if torch.get_num_threads() == slow else 0.1
        return gradient(self, point)

    monkeypatch.setattr(plan.TrainingProblem, "gradient", timed)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        o = objective(path="kept")
        o.gradient()
        assert torch.get_num_threads() == 2
        assert o.plan().threads == winner
        assert o.plan().gradient_seconds == pytest.approx(0.1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("fastest", ["kept", "kept-batched"])
def test_the_fastest_path_is_taken(fastest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timings.time, "perf_counter", lambda: clock[0])
    products = DoubleBackward.products

    def timed(self: Any, problem: Any, point: Any, rows: Any) -> Any:
        clock[0] += len(rows) * (0.01 if self.name == fastest else 0.02)
        return products(self, problem, point, rows)

    monkeypatch.setattr(DoubleBackward, "products", timed)
    o = objective(threads=1)
    o._curvature.planner._gradient_seconds = 0.01
    assert o.plan(4).path == fastest
    assert o.plan(4).product_cost == pytest.approx(1.0)
    dense = reference(build("cross-entropy-8+2"))
    V = torch.randn(o.size, 4)
    assert relative(o.hvp(V), dense.hessian @ V.double()) < 2e-5


def test_a_faster_path_with_another_product_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timings.time, "perf_counter", lambda: clock[0])
    products = DoubleBackward.products

    def wrong(self: Any, problem: Any, point: Any, rows: Any) -> Any:
        clock[0] += len(rows) * (0.001 if self.batched else 0.02)
        return products(self, problem, point, rows) * (1.01 if self.batched else 1.0)

    monkeypatch.setattr(DoubleBackward, "products", wrong)
    o = objective(threads=1)
    o._curvature.planner._gradient_seconds = 0.01
    assert o.plan(4).path == "kept"


def rivals(seconds: float, width: int = 1, keep: bool = True, memory: GraphMemory = SMALL, **options: Any) -> list[str]:
    planner = objective(threads=1, check=False, **options)._curvature.planner
    return [path.name for path in planner._rivals(seconds, width, keep, memory)]


def test_rivals_are_timed_only_where_they_can_win(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rivals(1e-3) == []
    assert rivals(1e-3, width=4) == ["kept-batched"]
    assert rivals(1e-3, width=4, keep=False) == ["rebuilt-batched", "forward"]
    assert rivals(1.0, width=4, keep=False) == []  # a slow product: no rival, whatever the width
    big = GraphMemory(all_chunks=100, largest_chunk=100, vectors=10)
    assert rivals(1e-3, width=4, memory=big, memory_limit=500) == []  # four vectors at once do not fit
    assert rivals(1e-3, width=4, memory=big, memory_limit=510) == ["kept-batched"]
    monkeypatch.setattr(Compiled, "possible", staticmethod(lambda: True))
    assert rivals(1.0) == []
    assert rivals(1.0, expected_products=100) == []  # 100 s do not repay a minute of compiling
    assert rivals(1.0, expected_products=1000) == ["compiled"]
    monkeypatch.setattr(Compiled, "possible", staticmethod(lambda: False))
    assert rivals(1.0, expected_products=1000) == []


def test_a_slow_objective_is_timed_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timings.time, "perf_counter", lambda: clock[0])
    counts = {"gradient": 0, "product": 0}
    gradient, products = plan.TrainingProblem.gradient, DoubleBackward.products

    def slow_gradient(self: Any, point: Any) -> Any:
        clock[0] += 1.0
        counts["gradient"] += 1
        return gradient(self, point)

    def slow_products(self: Any, problem: Any, point: Any, rows: Any) -> Any:
        clock[0] += 1.5 * len(rows)
        counts["product"] += len(rows)
        return products(self, problem, point, rows)

    monkeypatch.setattr(plan.TrainingProblem, "gradient", slow_gradient)
    monkeypatch.setattr(DoubleBackward, "products", slow_products)
    assert objective(threads=1).plan(16).product_cost == pytest.approx(1.5)
    assert counts == {"gradient": 1, "product": 2}


@pytest.mark.parametrize("path", ["kept", "kept-batched", "rebuilt", "forward"])
def test_fixed_paths_repeat_bit_for_bit(path: str) -> None:
    V = torch.randn(43, 3, generator=torch.Generator().manual_seed(0))
    first = [objective(path=path, threads=1).hvp(V) for _ in range(2)]
    o = objective(path=path, threads=1)
    assert o.size == 43
    o.loss()
    o.gradient(o.parameters() + 1)
    o.hvp(V, o.parameters() - 1)
    again = [o.hvp(V), o.hvp(V)]
    assert all(torch.equal(found, first[0]) for found in (*first, *again))


def test_products_do_not_depend_on_what_the_probe_did() -> None:
    """A run that was timed and its resumed half, which is told path and threads, have the same bits."""
    timed = objective()
    V = torch.randn(timed.size, 3)
    found, gradient, loss = timed.hvp(V), timed.gradient(), timed.loss()
    known = timed.plan(3)
    resumed = objective(path=known.path, threads=known.threads)
    assert torch.equal(resumed.hvp(V), found)
    assert torch.equal(resumed.gradient(), gradient)
    assert torch.equal(resumed.loss(), loss)
    assert resumed.spent.preparation < timed.spent.preparation
    assert replace(resumed.spent, preparation=0.0) == replace(timed.spent, preparation=0.0)


@pytest.mark.parametrize("name", ["lstm", "groupnorm", "batchnorm-train", "smoothed-cross-entropy"])
def test_a_gradient_has_the_same_bits_whatever_was_measured_before(name: str) -> None:
    """Kernels for graphs that can be differentiated again round otherwise (LSTM, group norm, SiLU)."""
    case = build(name)
    quiet, busy = (Objective(case.model, case.loss_fn, case.batches, mode=case.mode, threads=1) for _ in range(2))
    busy.hvp(torch.ones(busy.size, 2))
    busy.gnvp(torch.ones(busy.size))
    assert torch.equal(busy.gradient(), quiet.gradient())
    quiet.hvp(torch.ones(busy.size, 2))
    assert torch.equal(busy.gradient(), quiet.gradient())
    assert torch.equal(busy.loss(), Objective(case.model, case.loss_fn, case.batches, mode=case.mode).loss())


def test_paths_have_the_names_of_their_kinds() -> None:
    for name in plan.get_args(plan.PathName):
        assert plan._path(name).name == name
    assert isinstance(plan._path("forward"), ForwardOverReverse)
    assert Plan("kept", 1, 1).product_cost != Plan("kept", 1, 1).product_cost
