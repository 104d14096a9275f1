"""Models that torch spreads over two processes: FSDP2 is measured as the whole model is, others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from objective_problems import relative
from torch import nn
from two_workers import run_two_workers
from warm_process import WarmProcess

from edgescope import Monitor, Record
from edgescope.errors import InputError
from edgescope.linalg import top_eigenpairs
from edgescope.losses import cross_entropy, supervised
from edgescope.objective import Objective

BEGINNING = """
import datetime, itertools, sys, time, warnings
import torch, torch.distributed as distributed
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from edgescope import Monitor
from edgescope.errors import EdgescopeError
from edgescope.linalg import top_eigenpairs
from edgescope.losses import cross_entropy, supervised
from edgescope.objective import Objective

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
)
WORLD = distributed.group.WORLD
data = torch.load(f"{folder}/data.pt")
x, y, V = data["x"], data["y"], data["V"]
mine = (x[0::2], y[0::2]) if rank == 0 else (x[1::2], y[1::2])

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh(), nn.Linear(5, 5)), nn.GELU(), nn.Linear(5, 3))

def refused(make):
    try:
        make()
    except EdgescopeError as error:
        return str(error)
    return ""

found = {}
"""

ENDING = """
torch.save(found, f"{folder}/found{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""

SHARDED = """
model = network()
fully_shard(model[1])
fully_shard(model)
step = torch.optim.AdamW(model.parameters(), lr=1e-2)
loss_fn = supervised(cross_entropy)

def train(steps=3):
    for _ in range(steps):
        step.zero_grad()
        loss_fn(model, mine).backward()
        step.step()

train()
with torch.no_grad():
    model(mine[0])  # leaves whole parameters behind
loss_fn(model, mine).backward()
before = [p.grad.to_local().clone() for p in model.parameters()]
hooks = [len(part._forward_pre_hooks) + len(part._forward_hooks) for part in model.modules()]
for path, dtype in (("difference", torch.float32), ("difference", torch.float64), ("kept", torch.float32)):
    o = Objective(model, loss_fn, mine, group=WORLD, path=path, dtype=dtype, threads=1)
    first = o.hvp(V.to(dtype))
    errors = 0 if path == "kept" else [error for error, _ in o.product_errors.measured]
    pairs = top_eigenpairs(o, 2)
    found[path, dtype] = [o.samples, o.parameters(), o.loss(), o.gradient(), first, errors, pairs.values, pairs.error]
    found[path, dtype].append(o.gradient(o.parameters() + 1))
assert all(torch.equal(p.grad.to_local(), g) for p, g in zip(model.parameters(), before, strict=True))
assert hooks == [len(part._forward_pre_hooks) + len(part._forward_hooks) for part in model.modules()]
here = o.parameters()
o.assign(here + 1)
found["moved"] = o.parameters() - here
o.assign(here)

frozen = network()
frozen[0].weight.requires_grad_(False)
fully_shard(frozen)
found["frozen"] = Objective(frozen, loss_fn, mine, group=WORLD).gradient()
found["alone"] = refused(lambda: Objective(model, loss_fn, mine))
found["data"] = refused(lambda: Objective(model, loss_fn, mine if rank else [], group=WORLD))

# Training goes on as it does without measurements, bit for bit, and the first process writes what all have measured.
measures = ["loss", "gradient_norm", "sharpness", "effective_sharpness", "ratio", "step_ratio"]
o = Objective(model, loss_fn, mine, group=WORLD)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    monitor = Monitor(o, step, every=2, measures=measures, out=f"{folder}/fsdp")
    for _ in range(5):
        train(1)
        monitor.step()
    found["read"] = {name: reading.value for name, reading in monitor.latest.items()}
    found["notes"] = [reading.note for reading in monitor.latest.values()]
    found["folder"] = str(monitor.record.folder)
    monitor.close()
    found["warned"] = [str(one.message) for one in caught]
found["trained"] = o.parameters()
again = Monitor(o, step, every=2, measures=["loss"], out=f"{folder}/fsdp", resume=True)
found["continued"] = again.steps
again.close()
"""


def run(users_python: WarmProcess, tmp_path: Path, script: str) -> tuple[dict, dict]:
    torch.manual_seed(1)
    x, y = torch.randn(12, 4), torch.randint(3, (12,))
    torch.save({"x": x, "y": y, "V": torch.randn(73, 3)}, tmp_path / "data.pt")
    run_two_workers(users_python, BEGINNING + script + ENDING, tmp_path)
    first, second = (torch.load(tmp_path / f"found{rank}.pt", weights_only=False) for rank in (0, 1))
    return first, second


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh(), nn.Linear(5, 5)), nn.GELU(), nn.Linear(5, 3))


@pytest.mark.slow
def test_fully_sharded_models_are_measured_as_whole_ones(users_python: WarmProcess, tmp_path: Path) -> None:
    first, second = run(users_python, tmp_path, SHARDED)
    data = torch.load(tmp_path / "data.pt")
    batch, V = (data["x"], data["y"]), data["V"]
    model, loss_fn = network(), supervised(cross_entropy)
    step = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def train(steps: int) -> None:
        for _ in range(steps):
            step.zero_grad()
            loss_fn(model, batch).backward()
            step.step()

    train(3)
    exact = Objective(model, loss_fn, batch, dtype=torch.float64, path="rebuilt")
    values = top_eigenpairs(exact, 2, tol=1e-6).values
    lengths = V.double().norm(dim=0)
    for path, dtype in (("difference", torch.float32), ("difference", torch.float64), ("kept", torch.float32)):
        slack = 1e-5 if dtype == torch.float32 else 1e-6
        # Parameters themselves, trained in float32 on shards, differ by rounding.
        samples, w, loss, gradient, product, errors, found, error, elsewhere = first[path, dtype]
        assert samples == 12
        assert relative(w.double(), exact.parameters()) < 1e-6
        place = w.double()
        assert relative(gradient.double(), exact.gradient(place)) < slack
        assert relative(loss.double(), exact.loss(place)) < slack
        assert relative(elsewhere.double(), exact.gradient(place + 1)) < slack
        off = (product.double() - exact.hvp(V.double(), place)).norm(dim=0) / lengths
        if path == "difference":
            assert bool((off <= torch.as_tensor(errors)).all())
            assert max(errors) < (1e-2 if dtype == torch.float32 else 1e-7)
        else:
            assert float(off.max()) < slack
        assert bool(((found - values).abs() <= error + 1e-5 * values.abs()).all())
        for mine, theirs in zip(first[path, dtype], second[path, dtype], strict=True):
            assert torch.equal(torch.as_tensor(mine), torch.as_tensor(theirs))
    assert bool((first["moved"] - 1).abs().max() < 1e-6)

    frozen = network()
    frozen[0].weight.requires_grad_(False)
    assert relative(first["frozen"], Objective(frozen, loss_fn, batch).gradient()) < 1e-5
    assert "sharded over 2 processes, and group= is missing" in first["alone"]
    assert "the data are empty" in first["data"]
    assert second["data"].startswith("1 of the processes of the group refused")

    # The unsharded run with the same measures.
    objective = Objective(model, loss_fn, batch)
    measures = ["loss", "gradient_norm", "sharpness", "effective_sharpness", "ratio", "step_ratio"]
    monitor = Monitor(objective, step, every=2, measures=measures)
    for _ in range(5):
        train(1)
        monitor.step()
    assert relative(first["trained"], objective.parameters()) < 1e-5
    for name, reading in monitor.latest.items():
        assert first["read"][name] == second["read"][name] == pytest.approx(reading.value, rel=2e-3), name
    assert first["warned"] == second["warned"] == []
    assert first["folder"] == str(tmp_path / "fsdp")
    assert second["folder"] == ":memory:"
    with Record.open(tmp_path / "fsdp") as record:
        assert record.last_step == 4
        assert record.series("sharpness", "1")[1][-1] == first["read"]["sharpness"]
    assert first["continued"] == second["continued"] == 5


DATA_PARALLEL = """
from torch.nn.parallel import DistributedDataParallel

model = DistributedDataParallel(network())
step = torch.optim.SGD(model.parameters(), lr=0.1)
for name, options in {"every": {"every": 2}, "budget": {"budget": 0.5}}.items():
    o = Objective(model, supervised(cross_entropy), mine, group=WORLD)
    monitor = Monitor(o, step, measures=["loss", "sharpness"], out=f"{folder}/{name}", **options)
    if name == "budget":  # what one process can afford is far beyond the other
        monitor.schedule.expect = lambda: (1e9, 1e9) if rank else (0.0, 0.0)
        ticks = itertools.count(0, 10)
        monitor.schedule.clock = lambda: time.perf_counter() + next(ticks)
    for _ in range(20):
        step.zero_grad()
        supervised(cross_entropy)(model, mine).backward()
        step.step()
        monitor.step()
    found[name] = [float(v) for v in monitor.record.series("sharpness", "1")[1]]
    found[name, "steps"] = [int(s) for s in monitor.record.series("sharpness", "1")[0]]
    found[name, "folder"] = str(monitor.record.folder)
    monitor.close()
found["taken"] = refused(lambda: Monitor(o, step, out=f"{folder}/every"))
found["alone"] = ""
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    monitor = Monitor(Objective(model, supervised(cross_entropy), mine), step, out=f"{folder}/alone")
    found["alone"] = str(monitor.record.folder)
    monitor.close()
"""


@pytest.mark.slow
def test_the_first_process_writes_the_record(users_python: WarmProcess, tmp_path: Path) -> None:
    first, second = run(users_python, tmp_path, DATA_PARALLEL)
    for name in ("every", "budget"):
        assert first[name, "folder"] == str(tmp_path / name)
        assert second[name, "folder"] == ":memory:"
        assert first[name, "steps"] == second[name, "steps"]
        assert first[name] == second[name]
        with Record.open(tmp_path / name) as record:
            assert record.status == "finished"
            assert [int(step) for step in record.series("sharpness", "1")[0]] == first[name, "steps"]
    assert first["every", "steps"] == list(range(0, 21, 2))
    assert first["budget"]
    assert str(tmp_path / "every") in first["taken"]
    assert first["taken"] == second["taken"]
    assert (first["alone"], second["alone"]) == (str(tmp_path / "alone"), ":memory:")


REFUSED = """
from torch.distributed.pipelining import PipelineStage
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

mesh = init_device_mesh("cpu", (2,))
plan = {"0": ColwiseParallel(), "3": RowwiseParallel()}
tensor = parallelize_module(network(), mesh, plan)
found["tensor"] = refused(lambda: Objective(tensor, supervised(cross_entropy), mine, group=WORLD))
both = parallelize_module(network(), init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))["tensor"], plan)
fully_shard(both, mesh=init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))["data"])
found["both"] = refused(lambda: Objective(both, supervised(cross_entropy), mine, group=WORLD))
stage = PipelineStage(network(), rank, 2, torch.device("cpu"))
found["stage"] = refused(lambda: Objective(stage, supervised(cross_entropy), mine, group=WORLD))
"""


def test_other_ways_to_split_a_model_are_refused_by_name(users_python: WarmProcess, tmp_path: Path) -> None:
    for found in run(users_python, tmp_path, REFUSED):
        assert "parameter '0.weight' is a DTensor with placements (Shard(dim=0)), as of tensor" in found["tensor"]
        assert "as of tensor parallelism" in found["both"]
        assert "a stage of a pipeline-parallel model (PipelineStage)" in found["stage"]
        assert all("fully_shard" in text and "\n" not in text for text in found.values())


def test_the_refusal_is_the_same_without_processes() -> None:
    with pytest.raises(InputError, match="a model of type str"):
        Objective("model", supervised(cross_entropy), torch.ones(2))  # type: ignore[arg-type]
