"""Losses of steps that only one of two processes gives do not stop training."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from two_workers import TOGETHER, run_two_workers
from warm_process import WarmProcess

# Steps on sin x with a rate that is raised once, so that a long step is looked at; rank 0 alone gives the loss.
WORKER = """
from edgescope.monitor import SpikeOptions
x = torch.load(f"{folder}/data.pt")[rank::2]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
loss_fn = es.supervised(nn.functional.mse_loss)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
objective = es.Objective(model, loss_fn, (x, x.sin()), group=distributed.group.WORLD)
monitor = es.Monitor(objective, optimizer, every=100, measures=["loss"], spikes=SpikeOptions(curvature=1e-9))
for step in range(60):
    if step == 40:
        optimizer.param_groups[0]["lr"] = 0.2
    optimizer.zero_grad()
    loss = loss_fn(model, (x, x.sin()))
    loss.backward()
    for parameter in model.parameters():
        distributed.all_reduce(parameter.grad)
        parameter.grad /= 2
    optimizer.step()
    monitor.step(loss=loss if rank == 0 else None)
texts = [notice.text for notice in monitor.notices]
json.dump([sum(float(p.sum()) for p in model.parameters()), texts], open(f"{folder}/found{rank}.json", "w"))
distributed.barrier()
distributed.destroy_process_group()
"""


def test_a_loss_that_one_of_two_processes_gives_is_refused_on_both(users_python: WarmProcess, tmp_path: Path) -> None:
    torch.save(torch.linspace(-2, 2, 24, dtype=torch.float64)[:, None], tmp_path / "data.pt")
    run_two_workers(users_python, TOGETHER + WORKER, tmp_path)
    found = [json.loads((tmp_path / f"found{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0][0] == found[1][0]
    for _, texts in found:
        assert any("the loss of the step was given on 1 of the 2 processes" in text for text in texts), texts
