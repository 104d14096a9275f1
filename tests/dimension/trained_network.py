"""A small network, trained a little, with its objective."""

from __future__ import annotations

import itertools

import torch

import edgescope as es


def network(
    seed: int, widths: tuple[int, ...] = (4, 6, 3), samples: int = 40, lr: float = 0.3, steps: int = 60
) -> tuple[torch.nn.Module, es.Objective]:
    """A float32 tanh network, trained a little."""
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    x = torch.randn(samples, widths[0])
    data = (x, (x @ torch.randn(widths[0], widths[-1])).argmax(1))
    loss = torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(data[0]), data[1]).backward()
        optimizer.step()
    return model, es.Objective(model, es.supervised(loss), data, path="kept", threads=1)
