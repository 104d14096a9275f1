"""Two processes that share the data find what one finds on all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from objective_problems import relative
from torch import nn

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


def test_two_processes_with_half_of_the_data_each(tmp_path: Path) -> None:
    torch.manual_seed(1)
    x, y = torch.randn(12, 4).double(), torch.randint(3, (12,))
    V = torch.randn(43, 3).double()
    torch.save({"x": x, "y": y, "V": V}, tmp_path / "data.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, str(tmp_path / "worker.py")]
    workers = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said

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
