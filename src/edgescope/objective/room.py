"""How much memory graphs hold, estimated on a small piece of the data before the whole is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgescope.memory import budget, readable, require
from edgescope.objective.batches import leading_size, piece_of, tensors_of
from edgescope.objective.paths import DoubleBackward, GradientGraph, Path
from edgescope.objective.problem import Point, Problem


@dataclass(frozen=True)
class Room:
    """Estimated bytes: of the graphs of ``all_chunks``, of the ``largest_chunk``, and of the ``vectors`` at hand."""

    all_chunks: int
    largest_chunk: int
    vectors: int

    def needed(self, path: Path, width: int) -> int:
        """Bytes that products of blocks of ``width`` vectors take on this path at their peak.

        A backward pass through a graph was measured to hold once more what the graph does (MLP, CNN and transformer,
        within 10%); vectors that go through together, once for each.
        """
        kept = self.all_chunks if path.keep else self.largest_chunk
        return self.vectors + kept + (width if path.batched else 1) * self.largest_chunk


def make_room(problem: Problem, point: Point, limit: int | None, whole_batches: bool) -> Room:
    """Estimate what graphs need, and cut batches smaller where not even one batch's graph fits into memory.

    Raises MemoryBudgetError, which names both figures, where cutting cannot help, and InputError where it would change
    the loss.
    """
    fixed, a_sample = _graph_bytes_by_sample(problem, point)
    batches, allowed = problem.batches, budget(problem.device, limit)
    path = DoubleBackward(keep=False)

    def room(samples: int) -> Room:
        chunks = max(1.0, batches.rows / samples)
        return Room(
            int(fixed * chunks + a_sample * batches.rows), int(fixed + a_sample * samples), 8 * point.flat.nbytes
        )

    samples = min(batches.largest, batches.cut or batches.largest)
    excess = room(samples).needed(path, 1) - allowed
    if excess <= 0:
        return room(samples)
    fitting = samples - math.ceil(excess / max(2 * a_sample, 1.0))
    least = samples if whole_batches else 1
    if fitting < least:
        require(
            room(least).needed(path, 1),
            f"a curvature product on {least} sample{'s' * (least > 1)} and {problem.layout.size:,} parameters",
            device=problem.device,
            limit=limit,
            hint="smaller batches, fewer parameters, or a higher memory_limit",
        )
    problem.cut(fitting, point, f"batches must be cut to {fitting} samples to fit into {readable(allowed)}")
    return room(fitting)


def graph_bytes(build: Callable[[], object], held: Sequence[Tensor]) -> int:
    """Bytes of all tensors that autograd saves while ``build()`` runs, each storage once, without those of ``held``."""
    known = {t.untyped_storage().data_ptr() for t in held}
    storages: dict[int, int] = {}
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
            saved.append(tensor)  # keeps the address from being given out again while we count
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        build()
    return sum(storages.values())


def _graph_bytes_by_sample(problem: Problem, point: Point) -> tuple[float, float]:
    """What a chunk's graph takes whatever its size, and what every sample adds to it: from two small pieces."""
    batch = problem.batches.heaviest
    size = leading_size(batch)

    held = [*point.tensors, *tensors_of(batch)]

    def measured(samples: int) -> int:
        piece = piece_of(batch, 0, samples)
        return graph_bytes(
            lambda: GradientGraph(problem.loss_of(point.tensors, point.constants, piece), point.tensors), held
        )

    large = min(size, 32)
    small = large // 2
    if small < 2:  # batch statistics need two samples
        return 0.0, measured(size) / size
    fixed_and_small, fixed_and_large = measured(small), measured(large)
    a_sample = (fixed_and_large - fixed_and_small) / (large - small)
    return max(fixed_and_large - a_sample * large, 0.0), a_sample
