"""Models inside the wrappers of training loops: compiled, data-parallel, with hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
from objective_problems import Case, labelled, mlp, reference, relative
from torch import nn

from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective


@pytest.fixture(scope="module", autouse=True)
def single_process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store: Path = tmp_path_factory.mktemp("gloo") / "store"
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_part(model: nn.Module) -> nn.Module:
    assert isinstance(model, nn.Sequential)
    return nn.Sequential(torch.compile(model[:2], backend="eager"), model[2])


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "compiled-by-aot": lambda model: torch.compile(model, backend="aot_eager"),
    "compiled-in-place": compiled_in_place,
    "compiled-part": compiled_part,
    "distributed": nn.parallel.DistributedDataParallel,
    "data-parallel": nn.DataParallel,
    "compiled-distributed": lambda m: torch.compile(nn.parallel.DistributedDataParallel(m), backend="eager"),
    "distributed-compiled": lambda m: nn.parallel.DistributedDataParallel(torch.compile(m, backend="eager")),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while its compiler loads
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_models(wrapper: str, trained: bool) -> None:
    torch.manual_seed(0)
    plain, (x, y) = mlp().double(), labelled(8, 4)
    x = x.double()
    model = WRAPPERS[wrapper](copy.deepcopy(plain))
    if trained:  # compiled for good, hooks of the wrapper used
        half_mse(model(x), y).backward()
    dense = reference(Case(plain, supervised(half_mse), [(x, y)]))
    objective = Objective(model, supervised(half_mse), [(x[:6], y[:6]), (x[6:], y[6:])])
    V = torch.randn(objective.size, 3, dtype=torch.float64)
    assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9
    assert relative(objective.gradient(), dense.gradient) < 1e-9
    inside = [name.replace("_orig_mod.", "") for name, *_ in objective.layout]
    expected = [name for name, _ in plain.named_parameters()]
    assert inside == (
        [f"0.{name}" for name in expected[:2]] + ["1.weight", "1.bias"] if "part" in wrapper else expected
    )

    # Training goes on as before, through the wrapper, and the objective follows.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    loss = half_mse(model(x), y)
    loss.backward()
    optimizer.step()
    assert relative(objective.parameters(), dense.flat - 0.1 * dense.gradient) < 1e-9
    assert relative(loss, dense.loss) < 1e-12


def test_a_compiled_loss() -> None:
    torch.manual_seed(0)
    model, data = mlp().double(), (torch.randn(6, 4).double(), labelled(6, 4)[1])
    compiled = torch.compile(nn.functional.cross_entropy, backend="eager")
    dense = reference(Case(model, supervised(nn.functional.cross_entropy), [data]))
    objective = Objective(model, supervised(compiled), data)
    V = torch.randn(objective.size, 2, dtype=torch.float64)
    assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9


def test_parts_that_do_not_train_in_a_distributed_model() -> None:
    torch.manual_seed(0)
    plain = mlp().double()
    plain[0].requires_grad_(False)
    data = (torch.randn(6, 4).double(), labelled(6, 4)[1])
    dense = reference(Case(plain, supervised(half_mse), [data]))
    objective = Objective(nn.parallel.DistributedDataParallel(plain), supervised(half_mse), data)
    V = torch.randn(objective.size, 2, dtype=torch.float64)
    assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9
