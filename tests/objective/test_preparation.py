"""What comes before the first product: how much of the data it evaluates, what it loads, and where it is counted."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from objective_problems import Net, Scaled
from torch import Tensor, nn

import edgescope as es
from edgescope.cost import Cost
from edgescope.errors import NotDifferentiableError
from edgescope.objective import plan, second_order
from edgescope.objective.backward import carried_back
from edgescope.objective.few_samples import few_rows, reduced
from edgescope.objective.modules import measuring
from edgescope.objective.timing_price import SAVED, ProductTimes, price


def sequences(count: int, length: int, width: int) -> es.Objective:
    """A model of tokens, whose large layers are used at each of them."""
    net = Net(
        lambda m, x: m.head(m.hidden(m.embed(x)).tanh()),
        embed=nn.Embedding(11, width),
        hidden=nn.Linear(width, width),
        head=nn.Linear(width, 11),
    )
    tokens = torch.randint(11, (count, length))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    return es.Objective(net, loss, (tokens, tokens.roll(1, 1)), threads=1)


@pytest.mark.parametrize(
    ("count", "length", "width", "rows"),
    [(64, 8, 8, 32), (64, 16, 512, 4), (640, 16, 512, 30), (16, 64, 512, 2), (64, 1, 512, 32), (1, 64, 512, 2)],
)
def test_a_large_model_is_checked_on_few_sequences(count: int, length: int, width: int, rows: int) -> None:
    assert few_rows(sequences(count, length, width)._problem) == rows


def test_no_check_takes_more_samples_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    objective = sequences(64, 16, 512)
    call = type(objective._problem).call

    def watched(self: Any, tensors: Any, constants: Any, batch: Any, *rest: Any, **options: Any) -> Any:
        seen.append(len(batch[0]))
        return call(self, tensors, constants, batch, *rest, **options)

    monkeypatch.setattr(type(objective._problem), "call", watched)
    objective.hvp(torch.ones(objective.size))
    assert seen.count(64) == 1  # the graph of the product
    assert max(size for size in seen if size != 64) <= 4


def test_batch_statistics_are_checked_on_as_many_as_ever() -> None:
    model = nn.Sequential(nn.Linear(2048, 2048), nn.BatchNorm1d(2048), nn.Linear(2048, 2))
    objective = es.Objective(model, es.supervised(F.cross_entropy), (torch.randn(64, 2048), torch.arange(64) % 2))
    assert objective.mode == "batch-statistics"
    with measuring(objective.model, objective._flags, objective.device):
        assert few_rows(objective._problem) == 32


@pytest.mark.parametrize("off", [0.0, 0.1, -0.5, 1.0])
def test_in_single_precision_a_fault_in_one_tensor_is_left_to_double(off: float) -> None:
    torch.manual_seed(0)
    net = Net(lambda m, x: m.large(x).tanh().sum(1) + Scaled.apply(m.small.weight, off).sum(), large=nn.Linear(50, 40))
    net.small = nn.Linear(3, 1, bias=False)
    objective = es.Objective(net, lambda m, x: m(x).square().mean(), torch.randn(8, 50), threads=1)
    few, place = reduced(objective._problem, objective._at(None), torch.float32)
    assert second_order._Comparison(few, place).agrees_closely() == (off == 0.0)


@pytest.mark.parametrize("right", [True, False])
def test_a_large_model_is_compared_in_its_own_precision_first(right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(second_order, "LARGE", 10)
    monkeypatch.setattr(second_order, "reduced", lambda p, x, dtype: used.append(dtype) or reduced(p, x, dtype))
    net = Net(lambda m, x: Scaled.apply(m.layer(x), 0.0 if right else 1.0), layer=nn.Linear(5, 4))
    objective = es.Objective(net, lambda m, x: m(x).mean(), torch.randn(8, 5), threads=1)
    if right:
        objective.hvp(torch.ones(objective.size))
    else:
        with pytest.raises(NotDifferentiableError, match="custom autograd function Scaled"):
            objective.hvp(torch.ones(objective.size))
    assert used == [torch.float32, torch.float64][: 1 if right else 2]


@pytest.mark.parametrize("create", [False, True])
def test_vectors_are_carried_back_bit_for_bit_as_torch_does(create: bool) -> None:
    a, b, c = (torch.randn(4, 3, requires_grad=True) for _ in range(3))
    outputs = [(a * b).tanh(), (b @ c.T).exp(), a.sum()]
    vectors = [torch.randn(4, 3, requires_grad=create), torch.randn(4, 4), torch.randn(())]
    wanted = torch.autograd.grad(outputs, [a, b, c], vectors, create_graph=create, retain_graph=True)
    found = carried_back(outputs, [a, b, c], vectors, create_graph=create)
    assert all(map(torch.equal, found, wanted))
    if create:
        pairs = [torch.autograd.grad(g[0].sum(), vectors[0], retain_graph=True)[0] for g in (found, wanted)]
        assert torch.equal(*pairs)
    assert carried_back([a.sum()], [a, b], [torch.ones(())])[1] is None
    assert not carried_back([a.sum()], [a, b], [torch.ones(())], materialize_grads=True)[1].any()


LOADS = """
import sys, torch
before = set(sys.modules)
import edgescope as es
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
loss = es.supervised(torch.nn.functional.cross_entropy)
objective = es.Objective(model, loss, (torch.randn(9, 3), torch.arange(9) % 2))
es.top_eigenpairs(objective)
objective.gnvp(torch.ones(objective.size))
objective.gradient()
print(*sorted({name for name in sys.modules if name in ("sympy", "torch._dynamo", "scipy.optimize")} - before))
"""


def test_a_first_figure_loads_neither_the_compiler_nor_sympy() -> None:
    found = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def small() -> es.Objective:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    return es.Objective(model, es.supervised(F.cross_entropy), (torch.randn(12, 4), torch.arange(12) % 3), threads=1)


def test_rivals_are_timed_once_and_only_when_products_have_paid_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    monkeypatch.setitem(sys.modules, "sympy", sys)  # as where torch has made batched products before
    monkeypatch.setattr(plan.Planner, "_fastest", lambda *a: (timed.append(a[2]), (plan.DoubleBackward(), 1.0))[1])
    objective, w = small(), small().parameters()
    for place in range(40):
        objective.hvp(torch.ones(objective.size, 4), w + place)
        objective.hvp(torch.ones(objective.size), w + place)
        if 4 * (place + 1) * SAVED <= price(4):
            assert timed == []
    assert timed == [4]


def test_rivals_that_can_save_no_more_than_overhead_are_timed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [torch.ones(1, requires_grad=True).exp().sin()]  # the nodes of two operations, and of the leaf
    monkeypatch.setitem(sys.modules, "sympy", sys)
    slow, quick = ProductTimes(), ProductTimes()
    slow.note(3e-3, roots)  # 3 x 10 us: a hundredth of it
    quick.note(2e-5, roots)  # all of it
    assert (slow.operations, quick.operations) == (3, 3)
    assert [slow.timing_pays(n, 4) for n in (57, 2790, 2810)] == [False, False, True]
    assert [quick.timing_pays(n, 4) for n in (56, 57)] == [False, True]
    monkeypatch.delitem(sys.modules, "sympy")
    assert [quick.timing_pays(n, 4) for n in (57, 100_000, 100_100)] == [False, False, True], "what torch loads first"


def test_all_products_at_a_place_take_the_same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.Planner, "_fastest", lambda *_: pytest.fail("timed"))
    objective = small()
    for _ in range(40):
        objective.hvp(torch.ones(objective.size, 4))


def test_what_was_expected_is_timed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    monkeypatch.setattr(plan.Planner, "_fastest", lambda *a: (timed.append(a[2]), (plan.DoubleBackward(), 1.0))[1])
    model = nn.Linear(4, 3)
    data = torch.randn(12, 4), torch.arange(12) % 3
    objective = es.Objective(model, es.supervised(F.cross_entropy), data, threads=1, expected_products=500)
    objective.hvp(torch.ones(objective.size, 4))
    assert timed == [4]


def test_checks_and_timings_are_in_the_cost_of_what_asked_for_them() -> None:
    objective = small()
    made = objective.spent
    assert made.in_gradients() == made.preparation > 1
    pairs = es.top_eigenpairs(objective, k=1)
    assert (pairs.cost.gradients, pairs.cost.products) == (1, pairs.products)
    assert pairs.cost.preparation > 4  # the check evaluates all twelve samples, in double precision
    assert es.top_eigenpairs(objective, k=1).cost.preparation == 0
    assert es.trace(objective, num_matvecs=6).cost.preparation == 0
    assert objective.spent.preparation == made.preparation + pairs.cost.preparation
    before = objective.spent
    objective.plan()
    assert (objective.spent - before).preparation > 3  # gradients and products over all data


def test_the_first_reading_pays_for_the_check() -> None:
    objective = small()
    costs: list[Cost] = []
    monitor = es.Monitor(
        objective,
        torch.optim.SGD(objective.model.parameters(), 0.1),
        measures=["sharpness"],
        every=1,
        on_reading=lambda _, readings: costs.append(readings["sharpness"].cost),
    )
    monitor.start()
    monitor.step()
    assert costs[0].preparation > 0
    assert costs[-1].products > 0
