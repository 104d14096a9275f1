"""What is known of a model before its loss is evaluated: what cannot be measured, and what is taken care of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from edgescope.errors import EdgescopeError
from edgescope.objective.modes import active_dropout, uses_batch_statistics
from edgescope.objective.modules import own_precision, refuse_parameters, unwrapped
from edgescope.objective.parallel import refuse_parallel
from edgescope.tuning.problem_report import CheckRow


def model_rows(model: nn.Module) -> Iterator[CheckRow]:
    """A row for each thing about the model that matters to measurements. Cost: reading the parameters once."""
    inner = unwrapped(model)
    if inner is not model:
        yield CheckRow(
            "model", "wrappers", "handled", f"{type(inner).__name__} inside {type(model).__name__} is measured"
        )
    refused = [
        _refusal("parallel training", lambda: refuse_parallel(model, None)),
        _refusal("parameters", lambda: refuse_parameters(inner)),
    ]
    yield from filter(None, refused)
    trained = [p for p in inner.parameters() if p.requires_grad]
    count, frozen = sum(p.numel() for p in trained), sum(p.numel() for p in inner.parameters() if not p.requires_grad)
    if not any(refused):
        held = f", {frozen:,} frozen ones are constants" if frozen else ""
        yield CheckRow("model", "parameters", "ok", f"{count:,} trainable parameters{held}")
    yield from _precision(trained)
    yield from _random_parts(inner)
    yield from _parts(inner)


def _refusal(check: str, work: Callable[[], Any]) -> CheckRow | None:
    try:
        work()
    except EdgescopeError as error:
        return CheckRow.refused("model", check, error)
    return None


def _precision(trained: list[nn.Parameter]) -> Iterator[CheckRow]:
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in trained})
    if trained and any(p.is_floating_point() and p.dtype.itemsize < 4 for p in trained):
        wide = str(own_precision(trained)).removeprefix("torch.")
        yield CheckRow("model", "precision", "handled", f"parameters in {', '.join(kinds)} are measured in {wide}")
    elif trained:
        yield CheckRow("model", "precision", "ok", f"measured in {', '.join(kinds)}")


def _random_parts(model: nn.Module) -> Iterator[CheckRow]:
    dropout = active_dropout(model)
    if dropout:
        name, rate = dropout[0]
        more = f" and {len(dropout) - 1} more" if len(dropout) > 1 else ""
        finding = f"dropout in '{name}' (p={rate:g}){more} is off while measured"
        yield CheckRow("model", "dropout", "handled", finding)
    if not uses_batch_statistics(model):
        return
    if model.training:
        finding = "batch normalization is measured with the statistics of the batch, as in training"
        yield CheckRow("model", "batch normalization", "handled", finding, "batches of the size of training's")
    else:
        finding = "the model is in evaluation mode, and is measured with the statistics of the batch"
        yield CheckRow("model", "batch normalization", "caution", finding, "mode='eval', if the model is trained so")


def _parts(model: nn.Module) -> Iterator[CheckRow]:
    parts = list(model.modules())
    if any(isinstance(part, nn.MultiheadAttention) for part in parts):
        finding = "attention is computed by the math kernel while measured: the fused ones have no second derivative"
        yield CheckRow("model", "attention", "handled", finding)
    if torch.cuda.is_available() and any(isinstance(part, nn.RNNBase) for part in parts):
        finding = "recurrent layers are computed without cuDNN while measured, which has no second derivative"
        yield CheckRow("model", "recurrent layers", "handled", finding)
    if any(isinstance(part, nn.Embedding) and part.padding_idx is not None for part in parts):
        yield CheckRow("model", "embeddings", "handled", "padding rows of embeddings, which never train, are constants")
