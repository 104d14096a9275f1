"""Memory is estimated before it is spent; what does not fit is kept less, cut, or refused with both figures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from objective_problems import build, labelled, reference, relative
from torch import nn

from edgescope.errors import EdgescopeWarning, InputError, MemoryBudgetError
from edgescope.linalg import top_eigenpairs
from edgescope.losses import supervised
from edgescope.memory import SHARE, available, budget, readable, require
from edgescope.objective import Objective
from edgescope.objective.graph_memory import graph_bytes
from edgescope.objective.paths import GradientGraph

LOSS = supervised(F.cross_entropy)


def wide(samples: int = 512, width: int = 64) -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
    return model, [labelled(samples // 4, 8) for _ in range(4)]


def objective(limit: int | None = None, **options: Any) -> Objective:
    model, batches = wide()
    return Objective(model, LOSS, batches, memory_limit=limit, threads=1, **options)


def graph_memory(o: Objective) -> Any:
    o.gradient()
    return o._curvature.planner._memory


def test_the_estimate_is_what_the_graphs_save() -> None:
    o = objective()
    estimate = graph_memory(o)
    point = o._problem.point(None)
    held = [*point.tensors, *(t for batch in o._problem.batches for t in batch)]
    graphs = lambda: [GradientGraph(o._problem.part(point, chunk), point.tensors) for chunk in o._problem.chunks()]  # noqa: E731
    counted = graph_bytes(graphs, held)
    assert abs(estimate.all_chunks - counted) < 0.05 * counted
    assert abs(4 * estimate.largest_chunk - counted) < 0.05 * counted


PEAK = """
import re, torch
from edgescope.losses import supervised
from edgescope.objective import Objective
from edgescope.objective.paths import DoubleBackward
def peak():  # of this program alone: what resource.getrusage says includes that of the program that started it
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
torch.set_num_threads(1)
first, second, third = torch.nn.Linear(20, 400), torch.nn.Linear(400, 400), torch.nn.Linear(400, 3)
model = torch.nn.Sequential(first, torch.nn.Tanh(), second, torch.nn.Tanh(), third)
x, y = torch.randn(8000, 20), torch.randint(3, (8000,))
loss = supervised(torch.nn.functional.cross_entropy)
Objective(model, loss, (x[:50], y[:50]), path="{path}").hvp(torch.ones(170003))  # loads what is loaded late
objective = Objective(model, loss, (x, y), path="{path}", check=False)
objective.plan()
before = peak()
objective.hvp(torch.ones(objective.size))
print((peak() - before) / objective._curvature.planner._memory.needed(DoubleBackward(keep="{path}" == "kept"), 1))
"""


@pytest.mark.parametrize("path", ["kept", "rebuilt"])
def test_the_estimate_is_the_peak_of_a_product(path: str) -> None:
    program = PEAK.replace("{path}", path)
    # Every large tensor goes back to the system at once: what the allocator hoards is not the question here.
    direct = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=direct)
    assert float(ended.stdout) == pytest.approx(1.0, abs=0.15)


def test_what_cannot_be_kept_is_rebuilt_and_then_cut() -> None:
    free = objective()
    needs, V = graph_memory(free), torch.randn(free.size, 3, generator=torch.Generator().manual_seed(1))
    wanted = free.hvp(V)
    assert free.plan(3).path.startswith("kept")

    tight = objective(int(needs.vectors + 2.5 * needs.largest_chunk))
    assert relative(tight.hvp(V), wanted) < 1e-5
    assert not tight.plan(3).path.startswith("kept")
    assert tight._problem.batches.cut is None
    assert tight._problem.point(None).graphs is None

    tighter = objective(int(needs.vectors + 0.6 * needs.largest_chunk))
    assert relative(tighter.hvp(V), wanted) < 1e-5
    assert relative(tighter.gnvp(V), free.gnvp(V)) < 1e-5
    cut = tighter._problem.batches.cut
    assert cut is not None
    assert 16 < cut < 128
    assert tighter._problem.point(None).output_graphs is None


def figures(message: str) -> list[str]:
    return re.findall(r"[\d.]+ (?:bytes|KiB|MiB|GiB)", message)


def test_too_little_for_one_sample_is_refused_with_both_figures() -> None:
    with pytest.raises(MemoryBudgetError, match=r"one|1 sample") as caught:
        objective(10_000).hvp(torch.ones(4931))
    assert len(figures(str(caught.value))) == 2
    assert "9.8 KiB" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_was_asked_for_and_does_not_fit_is_refused_with_both_figures() -> None:
    needs = graph_memory(objective())
    limit = int(needs.vectors + 3 * needs.largest_chunk)
    tight = objective(limit, path="kept")
    with pytest.raises(MemoryBudgetError, match=r"path='kept'.*'rebuilt'") as caught:
        tight.hvp(torch.ones(tight.size))
    assert len(figures(str(caught.value))) == 2
    batched = objective(limit, path="rebuilt-batched")
    with pytest.raises(MemoryBudgetError, match=r"path='rebuilt-batched' with blocks of 8 vectors"):
        batched.hvp(torch.ones(batched.size, 8))
    assert objective(limit, path="rebuilt").hvp(torch.ones(tight.size)).isfinite().all()


def test_batches_are_not_cut_where_the_loss_is_no_mean_over_samples() -> None:
    model, batches = wide()
    contrast = lambda m, b: (m(b[0]) - m(b[0]).mean(0)).square().mean()  # noqa: E731
    with pytest.warns(EdgescopeWarning, match="depends on which samples stand together"):
        needs = graph_memory(Objective(model, contrast, batches, threads=1))
    limit = int(needs.vectors + 0.6 * needs.largest_chunk)
    with pytest.warns(EdgescopeWarning, match="depends on which samples stand together"):
        tight = Objective(model, contrast, batches, memory_limit=limit, threads=1)
    with pytest.raises(InputError, match=r"must be cut to \d+ samples.*not a mean over samples"):
        tight.hvp(torch.ones(tight.size))


def test_batches_with_batch_statistics_are_never_cut() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Linear(64, 3))
    data = labelled(256, 8)
    needs = graph_memory(Objective(model, LOSS, data, mode="train", threads=1))
    limit = int(needs.vectors + 1.0 * needs.largest_chunk)
    tight = Objective(model, LOSS, data, mode="train", memory_limit=limit, threads=1)
    with pytest.raises(MemoryBudgetError, match="256 samples") as caught:
        tight.hvp(torch.ones(tight.size))
    assert len(figures(str(caught.value))) == 2
    cut = Objective(model, LOSS, data, mode="eval", memory_limit=limit, threads=1)
    cut.hvp(torch.ones(cut.size))
    assert cut._problem.batches.cut is not None


def test_wide_blocks_go_through_in_pieces() -> None:
    case = build("cross-entropy-8+2")
    dense = reference(case)
    o = Objective(case.model, case.loss_fn, case.batches, dtype=torch.float64, path="kept-batched", threads=1)
    V = torch.randn(o.size, 37, dtype=torch.float64)
    widths = []
    path, _ = o._curvature.planner.choose(o._problem.point(None), 37)
    original = path.products
    path.products = lambda problem, point, rows: widths.append(len(rows)) or original(problem, point, rows)
    assert relative(o.hvp(V), dense.hessian @ V) < 1e-9
    assert widths == [16, 16, 5]


def test_release_lets_graphs_go() -> None:
    case = build("mlp-half-mse")
    o = Objective(case.model, case.loss_fn, case.batches, path="kept")
    o.hvp(torch.ones(o.size))
    o.gnvp(torch.ones(o.size))
    point = o._problem.point(None)
    assert point.graphs
    assert point.output_graphs
    o.release()
    assert o._problem.point(None).graphs is None


def test_budgets() -> None:
    assert budget(limit=123) == 123
    assert 0 < budget() <= available()
    assert budget() == pytest.approx(SHARE * available(), rel=0.1)
    require(100, "nothing much", limit=100, hint="more")
    with pytest.raises(
        MemoryBudgetError, match=r"a thing needs an estimated 2.0 KiB, and 1.0 KiB may be used; try less"
    ):
        require(2048, "a thing", limit=1024, hint="less")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB"), (3 * 2**40, "3.0 TiB")],
)
def test_readable(size: int, text: str) -> None:
    assert readable(size) == text


def test_a_basis_fits_beside_products_within_the_limit_and_graphs_make_room_for_it() -> None:
    free = objective()
    exact = top_eigenpairs(free, 2)
    needs = graph_memory(free)
    vector = needs.vectors // 8
    kept = needs.vectors + needs.all_chunks + needs.largest_chunk

    roomy = objective(int(kept + 30 * vector))
    assert top_eigenpairs(roomy, 2).note is None
    assert roomy.plan().path.startswith("kept")

    few = top_eigenpairs(objective(int(needs.vectors + 2 * needs.largest_chunk + 14 * vector)), 2)
    assert few.note is not None
    assert "fit in memory" in few.note

    tight = objective(int(needs.vectors + 2 * needs.largest_chunk + vector))
    tight.hvp(torch.ones(tight.size))
    assert tight._problem.batches.cut is None
    found = top_eigenpairs(tight, 2)
    assert tight._problem.batches.cut is not None
    for pairs in (few, found):
        assert bool(pairs.converged.all())
        torch.testing.assert_close(pairs.values, exact.values, rtol=1e-4, atol=0)

    with pytest.raises(MemoryBudgetError, match=r"a set of \d+ vectors"):
        top_eigenpairs(objective(int(needs.vectors + 3 * vector)), 2)
