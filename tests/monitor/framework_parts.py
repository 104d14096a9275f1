"""A small network and its data, for loops with training frameworks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
OPTIONS: dict[str, Any] = {"every": 2, "samples": 32, "measures": ["loss", "ratio"], "path": "kept", "threads": 1}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def loader(batch_size: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=batch_size, shuffle=True)
