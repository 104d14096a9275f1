"""Headroom on the batch of a step whose samples are shared by two processes: that of one process on all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from two_workers import TOGETHER, run_two_workers
from warm_process import WarmProcess

import edgescope as es

# Rank 0 gives two samples of each batch, rank 1 the others; in step 2 rank 1 gives none, in step 3 what is no batch.
WORKER = """
x, y, batches = torch.load(f"{folder}/data.pt")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
loss_fn = es.supervised(nn.functional.cross_entropy)
mine = slice(0, 7) if rank == 0 else slice(7, 12)
objective = es.Objective(model, loss_fn, (x[mine], y[mine]), group=distributed.group.WORLD)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
monitor = es.Monitor(objective, optimizer, every=1, measures=["headroom", "batch_sharpness:batch=4"])
found = []
for step, batch in enumerate(batches):
    own = batch[:2] if rank == 0 else batch[2:]
    optimizer.zero_grad()
    loss_fn(model, (x[batch], y[batch])).backward()
    optimizer.step()
    given = (x[own], y[own])
    if rank == 1 and step >= 2:
        given = None if step == 2 else {"a": 3}
    monitor.step(batch=given)
    found.append([{**monitor.latest[name].values, "note": monitor.latest[name].note} for name in monitor.latest])
with open(f"{folder}/found{rank}.json", "w") as file:
    json.dump(found, file)
distributed.barrier()
distributed.destroy_process_group()
"""


def test_processes_that_share_a_batch_find_its_headroom_or_say_together_why_not(
    users_python: WarmProcess, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    x, y = torch.randn(12, 4).double(), torch.randint(3, (12,))
    batches = [torch.tensor(one) for one in ([0, 4, 8, 11], [3, 6, 9], [1, 2, 7, 10], [0, 5, 8, 9])]
    torch.save((x, y, batches), tmp_path / "data.pt")
    run_two_workers(users_python, TOGETHER + WORKER, tmp_path)
    found = [json.loads((tmp_path / f"found{rank}.json").read_text()) for rank in (0, 1)]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    loss_fn = es.supervised(nn.functional.cross_entropy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = es.Monitor(es.Objective(model, loss_fn, (x, y)), optimizer, every=1, measures=["headroom"])
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        loss_fn(model, (x[batch], y[batch])).backward()
        optimizer.step()
        monitor.step(batch=(x[batch], y[batch]))
        (headroom, _), (of_the_other, _) = found[0][step], found[1][step]
        if step < 2:
            assert "ratio/batch" in headroom
            assert headroom == of_the_other
            assert headroom.pop("note") == monitor.latest["headroom"].note
            assert headroom == pytest.approx(monitor.latest["headroom"].values, rel=1e-9)
    assert found[0][2][0] == found[1][2][0]
    assert "given on 1 of the 2 processes" in found[0][2][0]["note"]
    assert found[0][3][0]["note"].startswith("1 of the processes of the group refused")
    assert "without any tensor" in found[1][3][0]["note"]
    for step in found[0]:
        assert "mini-batches of data that are sharded over processes" in step[1]["note"]
