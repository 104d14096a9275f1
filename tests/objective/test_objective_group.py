"""Two processes that share the data find what one finds on all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from objective_problems import relative
from torch import nn
from two_workers import run_two_workers
from warm_process import WarmProcess

from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective

# Every rank measures in an order of its own where that is allowed, so that what they have cached differs.
WORKER = """
import sys, datetime
import torch, torch.distributed as distributed
from torch import nn
from edgescope.errors import EdgescopeError
from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
)
data = torch.load(f"{folder}/data.pt")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
x, y, V = data["x"], data["y"], data["V"]
mine = [(x[:7], y[:7])] if rank == 0 else [(x[7:9], y[7:9]), (x[9:], y[9:])]
found = {}
for path in ("auto", "rebuilt"):
    o = Objective(model, supervised(half_mse), mine, group=distributed.group.WORLD, l2=0.1, path=path)
    if rank == 0:
        o.plan(3)
    here = o.parameters()
    first = o.hvp(V)
    if rank == 1:
        o.release()  # this rank has nothing in store, the other one its graphs
    assert torch.equal(o.hvp(V), first)
    loss, gradient = o.loss(), o.gradient()
    assert torch.equal(o.loss(), loss) and torch.equal(o.gradient(), gradient)
    found[path] = [o.samples, loss, gradient, first, o.gnvp(V), o.accuracy()]
    found[path] += [o.loss(here + 1), o.hvp(V[:, 0], here + 1)]
try:
    Objective(model, supervised(half_mse), [] if rank else mine, group=distributed.group.WORLD)
except EdgescopeError as error:
    found["refused"] = str(error)
if rank == 0:
    torch.save(found, f"{folder}/found.pt")
else:
    torch.save(found["refused"], f"{folder}/refused.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def test_two_processes_with_half_of_the_data_each(users_python: WarmProcess, tmp_path: Path) -> None:
    torch.manual_seed(1)
    x, y = torch.randn(12, 4).double(), torch.randint(3, (12,))
    V = torch.randn(43, 3).double()
    torch.save({"x": x, "y": y, "V": V}, tmp_path / "data.pt")
    run_two_workers(users_python, WORKER, tmp_path)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    one = Objective(model, supervised(half_mse), (x, y), l2=0.1)
    here = one.parameters()
    wanted = [one.samples, one.loss(), one.gradient(), one.hvp(V), one.gnvp(V), one.accuracy()]
    wanted += [one.loss(here + 1), one.hvp(V[:, 0], here + 1)]
    found = torch.load(tmp_path / "found.pt")
    for path in ("auto", "rebuilt"):
        for mine, theirs in zip(wanted, found[path], strict=True):
            assert relative(torch.as_tensor(theirs), torch.as_tensor(mine)) < 1e-12
    # A fault on one process stops both, and the other says where to look.
    assert found["refused"].startswith("1 of the processes of the group refused")
    assert "the data are empty" in torch.load(tmp_path / "refused.pt")


# Each rank knows batches of one kind only, which alone would tell nothing of what they weigh beside those of the other.
WEIGHTS = """
import sys, datetime, warnings
import torch, torch.distributed as distributed, torch.nn.functional as F
from torch import nn
from edgescope.errors import EdgescopeError
from edgescope.losses import supervised
from edgescope.objective import Objective

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
)
torch.manual_seed(0)
model, x, labels = nn.Linear(4, 3).double(), torch.randn(40, 4).double(), torch.randint(3, (40,))
classes = torch.tensor([1.0, 5.0, 20.0]).double()
first = torch.arange(40) < 20
cases = {
    "mean": (F.cross_entropy, labels),
    "ignored": (F.cross_entropy, torch.where(torch.arange(40) < 33, labels, -100)),
    "class-weights": (lambda z, y: F.cross_entropy(z, y, weight=classes), torch.where(first, 0, 2)),
    "sum": (lambda z, y: F.cross_entropy(z, y, reduction="sum"), labels),
    "coupled": (lambda z, y: (z - z.mean(0)).square().mean(), labels),
}
# On the first rank all weights are the same, so that its loss is also a mean over samples.
weights = torch.where(first, 3.0, torch.rand(40)).double()

def weighted(m, b):
    return (b["weights"] * F.cross_entropy(m(b["x"]), b["y"], reduction="none")).sum() / b["weights"].sum()

mine = slice(0, 20) if rank == 0 else slice(20, 40)
found = {}
for name, (criterion, y) in cases.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            o = Objective(model, supervised(criterion), (x[mine], y[mine]), group=distributed.group.WORLD)
        except EdgescopeError as error:
            found[name] = str(error)
            continue
    loss = criterion(model(x), y)
    live = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    found[name] = [float((o.gradient() - live).abs().max()), float((o.loss() - loss).abs()), o.samples]
    found[name] += [str(one.message) for one in caught]
batch = {"x": x, "y": labels, "weights": weights}
o = Objective(model, weighted, {k: v[mine] for k, v in batch.items()}, group=distributed.group.WORLD)
live = torch.cat([g.flatten() for g in torch.autograd.grad(weighted(model, batch), list(model.parameters()))])
off = (o.loss() - weighted(model, batch)).abs()
found["weights"] = [float((o.gradient() - live).abs().max()), float(off), o.samples]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for wrapped in (model, nn.parallel.DistributedDataParallel(model)):
        Objective(wrapped, supervised(F.cross_entropy), (x[mine], labels[mine]))
found["alone"] = [(str(one.message), one.filename) for one in caught]
torch.save(found, f"{folder}/found{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def test_processes_agree_on_what_their_batches_weigh(users_python: WarmProcess, tmp_path: Path) -> None:
    run_two_workers(users_python, WEIGHTS, tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"found{rank}.pt")
        for name in ("mean", "ignored", "class-weights", "weights"):
            gradient, loss, samples = found[name]
            assert gradient < 1e-12, name
            assert loss < 1e-12, name
            assert samples == 40
        assert "sum over its samples" in found["sum"]
        assert "which samples stand together" in found["coupled"][3]
        # Without group= each process measures its own data, and says so at the user's line.
        plain, wrapped = found["alone"]
        assert plain[0].startswith("2 processes train, and without group= this objective measures the loss on the data")
        assert "of the DistributedDataParallel model" in wrapped[0]
        assert plain[1] == wrapped[1] == str(tmp_path / "worker.py")


@pytest.mark.parametrize("path", ["kept", "rebuilt"])
def test_what_is_kept_is_this_process_own(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of exchanges depends on the calls alone, not on what was worked out before."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    o = Objective(model, supervised(half_mse), (torch.randn(6, 4), torch.randint(3, (6,))), path=path, threads=1)
    exchanges = []
    monkeypatch.setattr(o, "group", object())
    monkeypatch.setattr("torch.distributed.all_reduce", lambda value, group: exchanges.append(value.shape))
    calls = (o.loss, o.gradient, lambda: o.hvp(torch.ones(15, 2)), lambda: o.gnvp(torch.ones(15)), o.accuracy)
    for call in (*calls, *calls, o.release, *calls):
        before = len(exchanges)
        call()
        assert len(exchanges) - before == (0 if call == o.release else 1)
