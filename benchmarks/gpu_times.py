"""Times of products, eigenpairs and a tracked pair on a GPU, in gradients of the same model; for ``gpu_check.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import edgescope as es

CROSS_ENTROPY = es.supervised(nn.functional.cross_entropy)
DOUBLE, SINGLE = torch.float64, torch.float32
Check = Callable[[torch.device], Iterator[tuple[str, Callable[[], str]]]]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE, device="cpu")


def labels(count: int, classes: int) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(1), device="cpu")


def times(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
        found = []
        for _ in range(repeats):
            torch.accelerator.synchronize()
            began = time.perf_counter()
            work()
            torch.accelerator.synchronize()
            found.append(time.perf_counter() - began)
        return min(found)

    def compare(model: nn.Module, loss: Any, data: tuple[Tensor, Tensor]) -> Iterator[tuple[str, Callable[[], str]]]:
        model, data = model.to(device), (data[0].to(device), data[1].to(device))
        parameters = list(model.parameters())
        gradient = 0.0

        def plain() -> str:
            nonlocal gradient
            gradient = seconds(lambda: torch.autograd.grad(loss(model, data), parameters))
            return f"{1e3 * gradient:.1f} ms"

        def measured() -> es.Objective:
            return es.Objective(model, loss, data)

        def products() -> str:
            o = measured()
            v, V = torch.randn(o.size, device=device), torch.randn(o.size, 8, device=device)
            o.hvp(v), o.hvp(V)
            one, eight = seconds(lambda: o.hvp(v)), seconds(lambda: o.hvp(V))
            return f"{one / gradient:.1f} gradients, in a block of eight {eight / 8 / gradient:.1f}"

        def pairs(k: int) -> str:
            found: list[Any] = []
            took = seconds(lambda: found.append(es.top_eigenpairs(measured(), k=k)), 1)
            return f"{took / gradient:.0f} gradients, {found[0].products} products"

        def tracked() -> str:
            tracker = es.EigenTracker(measured())
            tracker.update()
            updates = []
            for _ in range(5):
                with torch.no_grad():
                    for p in parameters:
                        p.mul_(1.001)
                updates.append(seconds(tracker.update, 1))
            return f"{sum(updates) / len(updates) / gradient:.1f} gradients an update"

        yield "a gradient", plain
        yield "a product", products
        yield "the leading pair from nothing", lambda: pairs(1)
        yield "six pairs from nothing", lambda: pairs(6)
        yield "the leading pair tracked", tracked

    def sequences(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    tokens = torch.randint(65, (32, 257), generator=torch.Generator().manual_seed(0))
    gpt = es.MODELS.build("gpt:width=384,heads=6,depth=6").build((256,), 65, seed=0)
    resnet = es.MODELS.build("resnet:widths=16x32x64,blocks=3").build((3, 32, 32), 10, seed=0)
    images = drawn(2048, 3, 32, 32).float(), labels(2048, 10)
    for name, check in compare(gpt, sequences, (tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())):
        yield f"GPT of 10.8e6 parameters, 32 x 256 tokens: {name}", check
    for name, check in compare(resnet, CROSS_ENTROPY, images):
        yield f"ResNet-20, 2048 images of 32 x 32: {name}", check
