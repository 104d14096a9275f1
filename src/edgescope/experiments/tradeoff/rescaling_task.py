"""The same function with other weights: what the raw sharpness makes of it, and what adaptive sharpness does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from edgescope.objective.modules import thread_count
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep import Tagged
from edgescope.training import Parts, RunConfig
from edgescope.training.measured import measured_at

DOUBLINGS = 3
"""Times that the first layer is doubled and the second halved."""


@dataclass(frozen=True)
class RescalingTask(Tagged):
    """A ReLU network after ``config.steps`` steps, and the same function with weights that are rescaled.

    Step k of the record has the first layer, with its bias, times 2^k and the next layer over 2^k (Dinh et al. 2017).
    """

    name: str
    config: RunConfig
    cost: float

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        with (
            thread_count(1),
            Record.create(
                folder, config=self.config.as_dict(), overwrite=(folder / FILE).exists(), tags=self.tags
            ) as record,
        ):
            parts = Parts(self.config)
            for _ in range(self.config.steps):
                parts.optimizer.zero_grad()
                parts.loss_fn(parts.model, parts.samples).backward()
                parts.optimizer.step()
            for doublings in range(DOUBLINGS + 1):
                w = torch.cat([p.detach().flatten() for p in parts.model.parameters()])
                record.append(doublings, measured_at(parts, record, w, w, doublings))
                first, second = [part for part in parts.model.modules() if isinstance(part, nn.Linear)][:2]
                with torch.no_grad():
                    for tensor in first.parameters():
                        tensor.mul_(2)
                    second.weight.div_(2)
                progress((doublings + 1) / (DOUBLINGS + 1), "the same function, rescaled")
            record.set_status("finished")
