"""Trains in two processes with a framework, with and without measuring; run by ``torch.distributed.run``."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from framework_parts import OPTIONS, loader, network
from torch import Tensor, nn

import edgescope as es


def with_lightning(watched: bool, folder: Path) -> tuple[nn.Module, Any]:
    import lightning as L

    from edgescope.monitor.lightning import EdgescopeCallback

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback, module = EdgescopeCallback(out=folder, **OPTIONS), Module()
    quiet = dict.fromkeys(["enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"], False)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        callbacks=[callback] if watched else [],
        **quiet,  # type: ignore[arg-type]
    )
    trainer.fit(module, loader(8))
    return module, callback.monitor


def with_transformers(watched: bool, folder: Path) -> tuple[nn.Module, Any]:
    from test_transformers import attached, trainer_of

    callback = attached(out=folder, samples=16)
    trainer = trainer_of(folder.parent, *([callback] if watched else []), per_device_train_batch_size=4)
    trainer.train()
    return trainer.model, callback.monitor


def with_accelerate(watched: bool, folder: Path) -> tuple[nn.Module, Any]:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapped, wrapper, batches = accelerator.prepare(model, optimizer, loader(8))
    return model, own_loop(wrapped, wrapper, batches, accelerator.backward, watched, folder)


def with_fabric(watched: bool, folder: Path) -> tuple[nn.Module, Any]:
    import lightning as L

    fabric = L.Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    model = network()
    wrapped, wrapper = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    return model, own_loop(wrapped, wrapper, fabric.setup_dataloaders(loader(8)), fabric.backward, watched, folder)


def own_loop(model: Any, optimizer: Any, batches: Any, backward: Any, watched: bool, folder: Path) -> Any:
    monitor = None
    if watched:
        group = torch.distributed.group.WORLD
        monitor = es.watch(model, optimizer, F.cross_entropy, batches, out=folder, group=group, **OPTIONS)
    for _ in range(2):
        for x, y in batches:
            optimizer.zero_grad()
            backward(F.cross_entropy(model(x), y))
            optimizer.step()
    if monitor is not None:
        monitor.close()
    return monitor


def main(name: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    train = {
        "lightning": with_lightning,
        "transformers": with_transformers,
        "accelerate": with_accelerate,
        "fabric": with_fabric,
    }[name]
    plain, _ = train(False, folder / "record")
    model, monitor = train(True, folder / "record")
    found = {
        "same": all(torch.equal(p, q) for p, q in zip(plain.parameters(), model.parameters(), strict=True)),
        "steps": monitor.steps,
        "samples": monitor.objective.samples,
        "described": monitor.description,
        "ratios": monitor.table().filter(measure="ratio")["value"].to_list(),
    }
    (folder / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(found), encoding="utf-8")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
