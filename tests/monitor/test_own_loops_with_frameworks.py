"""``es.watch`` in one's own loop with Accelerate and Fabric: wrapped models, optimizers, loaders are seen through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from framework_parts import OPTIONS, loader, network
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import edgescope as es

pytestmark = pytest.mark.filterwarnings("ignore")


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Loop:
    """A loop with Accelerate, whose parts can be kept and loaded."""

    def __init__(self, folder: Path, watched: bool, **options: Any) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)
        self.accelerator = Accelerator(cpu=True, **options)
        self.network = network()
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        schedule = CosineAnnealingLR(optimizer, 16)
        self.parts = self.accelerator.prepare(self.network, optimizer, loader(16), schedule)
        self.logged: dict[int, dict[str, float]] = {}
        self.monitor = None
        if watched:
            model, optimizer, data, _ = self.parts
            options = OPTIONS | {"out": folder, "resume": True, "log": lambda v, step: self.logged.update({step: v})}
            self.monitor = es.watch(model, optimizer, F.cross_entropy, data, **options)
            self.accelerator.register_for_checkpointing(self.monitor)

    def train(self, epochs: int) -> None:
        torch.manual_seed(1)  # of the order of the data
        model, optimizer, data, schedule = self.parts
        for _ in range(epochs):
            for x, y in data:
                with self.accelerator.accumulate(model):
                    self.accelerator.backward(F.cross_entropy(model(x), y))
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(model.parameters(), 0.5)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()


ACCELERATE: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "accumulated with a rest": {"gradient_accumulation_steps": 3},  # of 4 batches: after 3, and where the data end
    "bfloat16": {"mixed_precision": "bf16"},
    "float16": {"mixed_precision": "fp16"},
}


@pytest.mark.parametrize("case", ACCELERATE)
def test_a_loop_with_accelerate_is_the_same_bit_for_bit(case: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    plain, loop = (Loop(tmp_path / "run", watched, **ACCELERATE[case]) for watched in (False, True))
    plain.train(2)
    loop.train(2)
    assert torch.equal(weights(plain.network), weights(loop.network))
    monitor = loop.monitor
    assert monitor is not None
    monitor.close()
    assert monitor.steps == (4 if case.startswith("accumulated") else 8)
    assert "32 of the 64 samples" in monitor.description
    assert sorted(loop.logged) == list(range(0, monitor.steps + 1, 2))
    assert all("edgescope/ratio" in values for values in loop.logged.values())


def test_a_loop_with_accelerate_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    first = Loop(tmp_path / "run", True)
    first.train(1)
    first.accelerator.save_state(str(tmp_path / "checkpoint"))
    first.train(1)
    assert first.monitor is not None
    first.monitor.close("interrupted")
    second = Loop(tmp_path / "run", True)
    second.accelerator.load_state(str(tmp_path / "checkpoint"))
    second.train(2)
    assert second.monitor is not None
    assert second.monitor.steps == 12
    second.monitor.close()
    with es.Record.open(tmp_path / "run") as record:
        assert record.status == "finished"
        assert record.series("ratio")[0].tolist() == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "bf16-true"])
def test_a_loop_with_fabric_is_the_same_bit_for_bit(precision: Any, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    found = []
    for watched in (False, True):
        fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=precision)
        own = network()
        model, optimizer = fabric.setup(own, torch.optim.SGD(own.parameters(), lr=0.1))
        data = fabric.setup_dataloaders(loader(16))
        if watched:
            monitor = es.watch(model, optimizer, F.cross_entropy, data, **OPTIONS)
        for _ in range(2):
            for x, y in data:
                optimizer.zero_grad()
                fabric.backward(F.cross_entropy(model(x), y))
                fabric.clip_gradients(model, optimizer, max_norm=0.5)
                optimizer.step()
        found.append(weights(own))
    monitor.close()
    assert torch.equal(*found)
    assert monitor.steps == 8
    assert monitor.objective.model is own
    assert "32 of the 64 samples" in monitor.description
    assert monitor.table().filter(measure="ratio")["value"].is_finite().all()
