"""Models whose parameters are spread over processes: those of FSDP2 are measured, the others refused by name."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.shards import is_sharded, whole

_PIPELINES = "torch.distributed.pipelining"
_FULLY_SHARD = "torch.distributed.fsdp.fully_shard"


def refuse_parallel(model: object, group: object) -> bool:
    """Refuse models that are split otherwise than by FSDP2, and those of FSDP2 without the group that shares them.

    Of FSDP2 are parameters of a module inside ``fully_shard``, sharded over one dimension of the processes, and copied
    over the others at most. Whether the model is one of FSDP2.
    """
    if type(model).__module__.startswith(_PIPELINES):
        raise InputError(
            f"a stage of a pipeline-parallel model ({type(model).__name__}), which has no loss of its own",
            expected="a whole model, or one of " + _FULLY_SHARD,
            hint="the model before it was split, on one process",
        )
    if not isinstance(model, nn.Module):
        return False  # refused elsewhere
    sharded = reshard(model)
    for name, part in model.named_modules():
        kind = type(part)
        if kind.__module__.startswith(_PIPELINES):
            raise InputError(
                f"module '{name}' of a pipeline-parallel model ({kind.__name__})",
                expected="a whole model, or one of " + _FULLY_SHARD,
            )
        if kind.__name__ == "FullyShardedDataParallel":
            raise InputError(
                "a model in FullyShardedDataParallel, whose parameters are flattened",
                expected="a model of FSDP2: " + _FULLY_SHARD,
            )
    managed = {id(p) for part in model.modules() if _is_fully_sharded(part) for p in part.parameters()}
    for name, p in model.named_parameters():
        if not is_sharded(p):
            continue
        tensor: Any = p
        *others, last = tensor.placements
        fully = id(p) in managed and last.is_shard() and all(placement.is_replicate() for placement in others)
        if not fully:
            placed = ", ".join(map(repr, tensor.placements))
            raise InputError(
                f"parameter '{name}' is a DTensor with placements ({placed}), as of tensor parallelism",
                expected="whole parameters, or those of " + _FULLY_SHARD,
                hint="the same model without tensor parallelism",
            )
        if group is None and tensor.device_mesh.size() > 1:
            raise InputError(
                f"the parameters are sharded over {tensor.device_mesh.size()} processes, and group= is missing",
                expected="the group of the processes that train, which all make the same calls",
                hint="group=torch.distributed.group.WORLD, with each process's share of the data",
            )
    return sharded


def gather(model: nn.Module) -> dict[int, Tensor]:
    """The whole of each sharded parameter, by its identity; the processes have to call this together."""
    return {id(p): whole(p) for p in model.parameters() if is_sharded(p)}


def reshard(model: nn.Module) -> bool:
    """Put the shards back in their place where FSDP2 has left whole parameters after a forward pass.

    Those are copies, which the optimizer does not step; the next forward pass gathers them again. Whether any part of
    the model is one of FSDP2.
    """
    found = [part for part in model.modules() if _is_fully_sharded(part)]
    for part in found:
        module: Any = part
        module.reshard()
    return bool(found)


def hooks_off(parts: Iterable[nn.Module]) -> None:
    """Take hooks of FSDP2 off the modules, which would put sharded parameters in the place of those put in.

    In attributes that :func:`measuring` puts back.
    """
    if not _fsdp():
        return
    for part in parts:
        for hooks in ("_forward_pre_hooks", "_forward_hooks"):
            kept = part.__dict__.get(hooks)
            if kept and any(map(_is_of_fsdp, kept.values())):
                part.__dict__[hooks] = OrderedDict((key, h) for key, h in kept.items() if not _is_of_fsdp(h))


def _fsdp() -> Any:
    return sys.modules.get("torch.distributed.fsdp")


def _is_fully_sharded(part: nn.Module) -> bool:
    fsdp = _fsdp()
    return fsdp is not None and isinstance(part, fsdp.FSDPModule)


def _is_of_fsdp(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("torch.distributed.fsdp")
