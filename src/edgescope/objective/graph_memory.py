"""The memory that autograd graphs hold, estimated on a small part of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from edgescope.allocator import LARGE
from edgescope.memory import budget, readable, require
from edgescope.objective.batches import Batch, leading_size, piece_of, tensors_of
from edgescope.objective.few_samples import few_rows
from edgescope.objective.paths import DoubleBackward, GradientGraph, Path
from edgescope.objective.problem import A_LOSS, Point, TrainingProblem
from edgescope.objective.watching import Watching

VECTORS = 8
"""Vectors of the size of the model that a product takes: the parameters, twice, the gradient, twice, the product,
twice, and what is made of them; 6.5 at their peak in a transformer."""

GAPS = 0.08
"""The share of a limit that gaps between blocks may take."""

CHECKED = 7
"""Vectors in use at once where derivatives are compared with differences."""


@dataclass(frozen=True)
class GraphMemory:
    """Estimated bytes of the graphs of ``all_chunks``, of the ``largest_chunk``, and of the ``vectors`` in use."""

    all_chunks: int
    largest_chunk: int
    vectors: int

    def needed(self, path: Path, width: int) -> int:
        """The peak bytes of products of blocks of ``width`` vectors on this path.

        A backward pass through a graph was measured to hold once more what the graph does (MLP, CNN and transformer,
        within 10%); vectors that go through together, once for each.
        """
        kept = self.all_chunks if path.keep else self.largest_chunk
        return self.vectors + kept + (width if path.batched else 1) * self.largest_chunk

    def of_check(self, problem: TrainingProblem, dtype: torch.dtype) -> int:
        """The peak bytes of a comparison of derivatives with differences on a few samples in this precision."""
        batches = problem.batches
        share = min(1.0, few_rows(problem) / min(batches.largest, batches.cut or batches.largest))
        wider = dtype.itemsize / problem.dtype.itemsize
        return int(CHECKED * problem.layout.size * dtype.itemsize + 2 * wider * share * self.largest_chunk)


def estimate_graph_memory(
    problem: TrainingProblem, point: Point, limit: int | None, whole_batches: bool, once: bool = False
) -> GraphMemory:
    """Estimate the memory of graphs, and split batches if the graph of one batch does not fit into memory.

    ``once``: graphs are only differentiated once, so that they are those of the loss and not of the gradient.

    Raises MemoryBudgetError, with both figures, if splitting cannot help, and InputError if it would change the loss.
    """
    if problem.batches.uncut:
        return _of_whole_batches(problem, point, limit, once)
    fixed, a_sample = _graph_bytes_by_sample(problem, point, once)
    batches, allowed = problem.batches, budget(problem.device, limit)
    path = DoubleBackward(keep=False)

    def memory(samples: int) -> GraphMemory:
        chunks = max(1.0, batches.rows / samples)
        return GraphMemory(
            int(fixed * chunks + a_sample * batches.rows), int(fixed + a_sample * samples), _vectors(point)
        )

    samples = min(batches.largest, batches.cut or batches.largest)
    excess = memory(samples).needed(path, 1) - allowed
    if excess <= 0:
        return memory(samples)
    fitting = samples - math.ceil(excess / max(2 * a_sample, 1.0))
    least = samples if whole_batches else 1
    if fitting < least:
        require(
            memory(least).needed(path, 1),
            f"a curvature product on {least} sample{'s' * (least > 1)} and {problem.layout.size:,} parameters",
            device=problem.device,
            limit=limit,
            hint="smaller batches, fewer parameters, or a higher memory_limit",
        )
    problem.cut(fitting, point, f"batches must be cut to {fitting} samples to fit into {readable(allowed)}")
    return memory(fitting)


def unused(limit: int, point: Point) -> int:
    """The bytes of a limit that are left to the allocator: gaps between blocks on the CPU, 1% to 6% of the peak."""
    large = point.flat.nbytes >= LARGE and point.flat.device.type == "cpu"
    return int(GAPS * limit) if large else 0


def _vectors(point: Point) -> int:
    """The bytes of all vectors beside graphs; constants are kept at the point, and copied once more for every chunk."""
    return VECTORS * point.flat.nbytes + 2 * sum(tensor.nbytes for tensor in point.constants.values())


def graph_bytes(build: Callable[[], object], held: Sequence[Tensor]) -> int:
    """Bytes of all tensors that autograd saves during ``build()``, each storage once, except those of ``held``."""
    known = {t.untyped_storage().data_ptr() for t in held}
    storages: dict[int, int] = {}
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        inside = _inside(tensor)
        if inside._is_zerotensor():  # the derivative of a constant, which takes no memory
            return tensor
        storage = inside.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
            saved.append(tensor)  # keeps the address from being given out again while we count
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            build()
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        return _bytes_alive_after(build, known)  # of a loss that uses torch.func.grad, which has no such hooks
    return sum(storages.values())


def _bytes_alive_after(build: Callable[[], object], known: set[int]) -> int:
    """Bytes of all tensors that ``build()`` makes and that are alive after it, beside the known ones."""
    with _Storages() as made:
        built = build()
    alive = {ref.cdata: nbytes for ref, nbytes, address in made.found if not ref.expired() and address not in known}
    del built
    return sum(alive.values())


class _Storages(Watching):
    """The memory of all results of operations: what refers to it, its bytes and its address."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[StorageWeakRef, int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor) and not leaf._is_zerotensor():
                storage = leaf.untyped_storage()
                self.found.append((StorageWeakRef(storage), storage.nbytes(), storage.data_ptr()))
        return result


def _inside(tensor: Tensor) -> Tensor:
    """The tensor with memory of its own inside those of ``torch.func.vmap``, ``grad`` and ``jvp``, which have none."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _of_whole_batches(problem: TrainingProblem, point: Point, limit: int | None, once: bool) -> GraphMemory:
    """The same for batches that are never cut: no batch is taken to need more than the heaviest one."""
    batches = problem.batches
    a_batch = _graph_bytes_of(problem, point, batches.heaviest, once)
    memory = GraphMemory(a_batch * batches.number, a_batch, _vectors(point))
    require(
        memory.needed(DoubleBackward(keep=False), 1),
        f"a curvature product on a batch that cannot be split and {problem.layout.size:,} parameters",
        device=problem.device,
        limit=limit,
        hint="smaller batches, fewer parameters, or a higher memory_limit",
    )
    return memory


def _graph_bytes_of(problem: TrainingProblem, point: Point, batch: Batch, once: bool) -> int:
    held = [*point.tensors, *tensors_of(problem.batches.heaviest)]

    def loss() -> Tensor:
        found: Tensor = problem.loss_of(point.tensors, point.constants, batch)
        return found

    if once:
        return graph_bytes(loss, held)
    problem.count_preparation(1 - A_LOSS, batch)
    return graph_bytes(lambda: GradientGraph(loss(), point.tensors), held)


def _graph_bytes_by_sample(problem: TrainingProblem, point: Point, once: bool) -> tuple[float, float]:
    """What a chunk's graph takes whatever its size, and what every sample adds to it: from two small pieces."""
    batch = problem.batches.heaviest
    size = leading_size(batch)

    def measured(samples: int) -> int:
        return _graph_bytes_of(problem, point, piece_of(batch, 0, samples), once)

    large = min(size, few_rows(problem, least=4))
    small = large // 2
    if small < 2:  # batch statistics need two samples
        return 0.0, measured(size) / size
    try:
        fixed_and_small, fixed_and_large = measured(small), measured(large)
    except Exception:  # a model that takes batches of some sizes alone, or one without a derivative
        return 0.0, measured(size) / size
    a_sample = (fixed_and_large - fixed_and_small) / (large - small)
    return max(fixed_and_large - a_sample * large, 0.0), a_sample
