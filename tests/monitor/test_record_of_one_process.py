"""A folder for the record that only some of the processes give: all measure together, and the first one writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from two_workers import TOGETHER, run_two_workers
from warm_process import WarmProcess

from edgescope.store import Record

WORKER = """
x = torch.load(f"{folder}/data.pt")[rank::2]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
objective = es.Objective(model, es.supervised(nn.functional.mse_loss), (x, x.sin()), group=distributed.group.WORLD)
given = {"out": f"{folder}/run"} if rank == int(open(f"{folder}/giver").read()) else {}
with es.Monitor(objective, optimizer, every=1, measures=["loss"], **given) as monitor:
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), x.sin()).backward()
        for parameter in model.parameters():
            distributed.all_reduce(parameter.grad)
            parameter.grad /= 2
        optimizer.step()
        monitor.step()
    monitor.finish()
    json.dump([str(monitor.record.folder), monitor.value("loss", "train")], open(f"{folder}/found{rank}.json", "w"))
distributed.barrier()
distributed.destroy_process_group()
"""


@pytest.mark.parametrize("giver", [0, 1])
def test_one_of_two_processes_gives_the_folder(users_python: WarmProcess, tmp_path: Path, giver: int) -> None:
    x = torch.linspace(-2, 2, 24, dtype=torch.float64)[:, None]
    torch.save(x, tmp_path / "data.pt")
    (tmp_path / "giver").write_text(str(giver))
    run_two_workers(users_python, TOGETHER + WORKER, tmp_path)
    found = [json.loads((tmp_path / f"found{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0][1] == found[1][1] > 0
    folders = [str(tmp_path / "run"), ":memory:"] if giver == 0 else [":memory:", ":memory:"]
    assert [folder for folder, _ in found] == folders
    assert (tmp_path / "run").exists() == (giver == 0)
    if giver == 0:
        with Record.open(tmp_path / "run") as record:
            assert record.series("loss", "train")[1].tolist()[-1] == found[0][1]
