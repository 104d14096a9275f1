"""Batches of which the model cannot take a part (graphs, gathered rows, sequences first) are taken whole, silently."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import Live, LossFunction, agrees, at_once, notices, of_live_model, refused
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import EdgescopeWarning, InputError, MemoryBudgetError, NotKnownError
from edgescope.objective import Objective, in_precision, mini_batches
from edgescope.objective.graph_memory import graph_bytes
from edgescope.objective.paths import GradientGraph
from edgescope.objective.samples import sample_losses

Case = tuple[Callable[[], nn.Module], LossFunction, Callable[[int], Any]]


class Graph(nn.Module):
    """A network that knows all of its nodes and their edges."""

    def __init__(self, n: int = 60) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.rand(n, n))
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.adjacency @ x / len(self.adjacency))


class Gathering(Graph):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[self.adjacency.argsort(1)[:, :3]].mean(1))


def nodes(n: int) -> Tensor:
    return torch.randn(n, 4)


def labels(n: int) -> Tensor:
    return torch.randint(3, (n,))


def linear() -> nn.Module:
    return nn.Linear(4, 3)


def edges(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b["x"].index_add(0, b["e"][1], b["x"][b["e"][0]])), b["y"])


def graph(n: int) -> dict[str, Tensor]:
    return {"x": nodes(n), "e": torch.randint(n, (2, 3 * n)), "y": labels(n)}


def pooled(m: nn.Module, b: Any) -> Tensor:
    sums = torch.zeros(len(b[2]), 4, dtype=b[0].dtype).index_add(0, b[1], b[0])
    return F.cross_entropy(m(sums), b[2])


def ce(output: Callable[[nn.Module, Any], Tensor]) -> LossFunction:
    return lambda m, b: F.cross_entropy(output(m, b), b[-1])


def sequences_first(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(5, n, 4), labels(n)


def recurrent() -> nn.Module:
    return nn.RNN(4, 3)


last = ce(lambda m, b: m(b[0])[0][-1])

CASES: dict[str, Case] = {
    "edges": (linear, edges, graph),
    "edges as rows": (
        linear,
        ce(lambda m, b: m(b[0].index_add(0, b[1][:, 1], b[0][b[1][:, 0]]))),
        lambda n: (nodes(n), torch.stack([torch.arange(n), torch.arange(n).flip(0)], 1), labels(n)),
    ),
    "dense adjacency": (
        linear,
        ce(lambda m, b: m(b[1] @ b[0] / len(b[0]))),
        lambda n: (nodes(n), torch.rand(n, n), labels(n)),
    ),
    "indices of training": (
        linear,
        lambda m, b: F.cross_entropy(m(b["x"])[b["train"]], b["y"][b["train"]]),
        lambda n: {"x": nodes(n), "y": labels(n), "train": torch.randperm(n)[: n // 2]},
    ),
    "gathered rows": (linear, ce(lambda m, b: m(b[0])[b[1]]), lambda n: (nodes(n), torch.arange(n).flip(0), labels(n))),
    "neighbours": (
        linear,
        ce(lambda m, b: m(b[0][b[1]].mean(1))),
        lambda n: (nodes(n), torch.arange(n).flip(0)[:, None].expand(n, 3), labels(n)),
    ),
    "graphs by number": (linear, pooled, lambda n: (nodes(n), torch.arange(n) // 4, labels((n + 3) // 4))),
    "adjacency in the model": (Graph, es.supervised(F.cross_entropy), lambda n: (nodes(60), labels(60))),
    "edges in the model": (Gathering, es.supervised(F.cross_entropy), lambda n: (nodes(60), labels(60))),
    "sequences first": (recurrent, last, sequences_first),
    "as many steps as sequences": (
        recurrent,
        last,
        lambda n: (torch.randn(n, n, 4), labels(n)),
    ),
    "a fixed size": (
        linear,
        ce(lambda m, b: m(b[0].view(20, -1, 4)).flatten(0, 1)),
        lambda n: (nodes(60), labels(60)),
    ),
}


def doubled(batch: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda t: t.double() if t.is_floating_point() else t, batch)


@pytest.mark.parametrize("n", [20, 44, 60, 300])
@pytest.mark.parametrize("name", CASES)
def test_one_batch_is_measured_whole(name: str, n: int) -> None:
    if name == "as many steps as sequences":
        n = min(n, 36)  # a Hessian through 300 steps takes long
    for seed, check in enumerate((True, False)):
        torch.manual_seed(seed)
        make, loss_fn, data = CASES[name]
        model, batch = make().double(), doubled(data(n))
        live = at_once(model, loss_fn, batch)
        objective = Objective(model, loss_fn, batch, check=check)  # warnings are errors
        agrees(objective, live)
        assert list(objective.notices) == []
        agrees(in_precision(Objective(model.float(), loss_fn, batch, check=check), torch.float64), live, slack=1e-5)


def test_every_look_at_few_samples_is_at_the_whole_batch() -> None:
    torch.manual_seed(0)
    model, batch = Gathering().double(), (nodes(60).double(), labels(60))
    objective = Objective(model, es.supervised(F.cross_entropy), batch)
    V = torch.randn(objective.size, 3, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(model, p, (batch[0],)))(
        dict(model.named_parameters())
    )
    rows = torch.cat([jacobian[name].flatten(2) for name, _ in model.named_parameters()], 2)  # (60, 3, P)
    p = model(batch[0]).detach().softmax(1)
    curved = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    wanted = torch.einsum("nap,nab,nbq,qk->pk", rows, curved, rows, V) / 60
    assert torch.allclose(objective.gnvp(V), wanted.detach(), rtol=1e-9, atol=1e-12)
    for path in ("kept-batched", "rebuilt", "forward"):
        fixed = Objective(model, objective.loss_fn, batch, path=path)
        assert torch.allclose(fixed.hvp(V), objective.hvp(V), rtol=1e-9, atol=1e-12)
    found = objective.loss_in_training_mode()
    assert found is not None
    assert found[0] == pytest.approx(float(objective.loss()))


def test_memory_is_that_of_whole_batches() -> None:
    torch.manual_seed(0)
    model, batches = linear(), [graph(200), graph(150)]
    free = Objective(model, edges, batches)
    free.gradient()
    memory, point = free._curvature.planner._memory, free._problem.point(None)
    assert memory is not None
    held = [*point.tensors, *free._problem.batches.heaviest.values()]
    chunk = next(iter(free._problem.chunks()))
    assert memory.largest_chunk == pytest.approx(
        graph_bytes(lambda: GradientGraph(free._problem.part(point, chunk), point.tensors), held), rel=0.02
    )
    V = torch.eye(free.size)
    tight = Objective(model, edges, batches, memory_limit=int(memory.vectors + 2.5 * memory.largest_chunk))
    assert torch.allclose(tight.hvp(V), free.hvp(V), atol=1e-6)
    assert tight.plan().path == "rebuilt"
    with pytest.raises(MemoryBudgetError, match="cannot be split"):
        Objective(model, edges, batches, memory_limit=memory.largest_chunk).gradient()


def test_what_needs_parts_of_a_batch_is_refused() -> None:
    for name in ("edges", "gathered rows", "sequences first"):
        make, loss_fn, data = CASES[name]
        objective = Objective(make(), loss_fn, data(60))
        refused(
            InputError,
            "cannot be split",
            make=lambda f=loss_fn, m=objective.model, d=data: Objective(m, f, d(60), chunk=8),
        )
        refused(InputError, "cannot be split", make=lambda o=objective: next(mini_batches(o, 4)))
        refused(NotKnownError, "cannot be split", make=lambda o=objective: sample_losses(o))


def test_faults_of_the_whole_batch_are_named_as_they_are() -> None:
    refused(
        InputError,
        "index 70",
        make=lambda: Objective(linear(), CASES["gathered rows"][1], (nodes(60), torch.full((60,), 70), labels(60))),
    )
    refused(InputError, "only a fault", make=lambda: Objective(linear(), failing, graph(60)))


def failing(m: nn.Module, b: Any) -> Tensor:
    raise KeyError("only a fault")


# --------------------------------------------------------------------------------------------------------- weights


def weighted(model: nn.Module, loss_fn: LossFunction, batches: list[Any], weights: list[float]) -> Live:
    loss = sum(w * loss_fn(model, b) for w, b in zip(weights, batches, strict=True) if w) / sum(weights)
    return of_live_model(loss, list(model.parameters()))


def steps_first(sizes: tuple[int, ...], target: Callable[[int], Tensor]) -> list[Any]:
    return [(torch.randn(5, n, 4, dtype=torch.float64), target(n)) for n in sizes]


def floats(n: int) -> Tensor:
    return torch.rand(n, 3, dtype=torch.float64)


def with_ignored(n: int) -> Tensor:
    return torch.where(torch.arange(n) % 3 == 0, labels(n), -100) if n < 30 else labels(n)


def out(m: nn.Module, b: Any) -> Tensor:
    return m(b[0])[0][-1]


def with_mask(m: nn.Module, b: Any) -> Tensor:
    losses = (out(m, b) - b[1]["y"]).square().sum(1)
    return (losses * b[1]["mask"]).sum() / b[1]["mask"].sum()


CLASSES = torch.tensor([1.0, 5.0, 20.0], dtype=torch.float64)
MEANS: dict[str, tuple[LossFunction, Callable[[int], Any], Callable[[Any], float]]] = {
    "cross-entropy": (last, labels, lambda b: len(b[1])),
    "ignored": (last, with_ignored, lambda b: int((b[1] != -100).sum())),
    "class weights": (
        lambda m, b: F.cross_entropy(out(m, b), b[1], weight=CLASSES),
        labels,
        lambda b: float(CLASSES[b[1]].sum()),
    ),
    "penalty": (
        lambda m, b: last(m, b) + 0.1 * sum(p.square().sum() for p in m.parameters()),
        labels,
        lambda b: len(b[1]),
    ),
    "squared": (lambda m, b: F.mse_loss(out(m, b), b[1]), floats, lambda b: len(b[1])),
    "half": (lambda m, b: 0.5 * (out(m, b) - b[1]).square().sum(1).mean(), floats, lambda b: len(b[1])),
    "absolute": (lambda m, b: F.l1_loss(out(m, b), b[1]), floats, lambda b: len(b[1])),
    "huber": (lambda m, b: F.huber_loss(out(m, b), b[1]), floats, lambda b: len(b[1])),
    "binary": (lambda m, b: F.binary_cross_entropy_with_logits(out(m, b), b[1]), floats, lambda b: len(b[1])),
    "divided": (
        lambda m, b: (out(m, b) - b[1]).square().sum() / torch.tensor(b[1].numel()),
        floats,
        lambda b: len(b[1]),
    ),
    "mask": (
        with_mask,
        lambda n: {"y": floats(n), "mask": torch.rand(n, dtype=torch.float64)},
        lambda b: float(b[1]["mask"].sum()),
    ),
}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [*itertools.product(MEANS, [(20, 40), (40, 5, 17), (30, 30)]), ("cross-entropy", tuple(range(3, 37)))],
)
def test_batches_weigh_what_their_losses_are_means_over(name: str, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(len(sizes))
    loss_fn, target, weight = MEANS[name]
    model, batches = recurrent().double(), steps_first(sizes, target)
    live = weighted(model, loss_fn, batches, [weight(b) for b in batches])
    agrees(Objective(model, loss_fn, batches, path="rebuilt"), live)  # warnings are errors
    agrees(Objective(model, loss_fn, batches, path="rebuilt", count=weight), live)


def test_graphs_weigh_their_nodes_streamed_or_held(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    for name in ("edges", "indices of training", "graphs by number"):
        make, loss_fn, data = CASES[name]
        model, batches = make().double(), [doubled(data(n)) for n in (20, 70, 33)]
        weights = [
            {"edges": n, "indices of training": n // 2, "graphs by number": (n + 3) // 4}[name] for n in (20, 70, 33)
        ]
        live = weighted(model, loss_fn, batches, [float(w) for w in weights])
        agrees(Objective(model, loss_fn, batches), live)
        with monkeypatch.context() as patch:
            patch.setattr("edgescope.objective.batches.available", lambda _: 0)
            agrees(Objective(model, loss_fn, batches), live)


def test_a_batch_without_a_valid_target_weighs_nothing() -> None:
    torch.manual_seed(0)
    model, batches = recurrent().double(), steps_first((20, 8, 12), labels)
    batches[1][1][:] = -100
    agrees(Objective(model, last, batches), weighted(model, last, batches, [20, 0, 12]))


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda m, b: F.mse_loss(out(m, b), b[1]).sqrt(),
        lambda m, b: (out(m, b) - b[1]).square().sum(),
        lambda m, b: F.mse_loss(out(m, b), b[1]) + (out(m, b) - b[1])[:4].abs().mean(),
        lambda m, b: (out(m, b) - b[1]).square().amax(),
    ],
)
def test_what_does_not_show_is_asked_for_in_true_words(loss_fn: LossFunction) -> None:
    torch.manual_seed(0)
    model, batches = recurrent().double(), steps_first((20, 40, 12), floats)
    with pytest.warns(EdgescopeWarning, match="was not found.*try count="):
        objective = Objective(model, loss_fn, batches)
    assert not any("stand together" in text for text in notices(objective))
    counted = Objective(model, loss_fn, batches, count=lambda b: len(b[1]))  # warnings are errors
    agrees(counted, weighted(model, loss_fn, batches, [20, 40, 12]))


def test_a_count_that_is_not_that_of_the_loss_is_refused() -> None:
    batches = steps_first((20, 40), labels)
    refused(
        InputError,
        "count= does not weigh",
        make=lambda: Objective(recurrent().double(), last, batches, count=lambda b: len(b[0])),
    )
