"""Choosing derivative path and number of threads, by timing where that can save more than it takes."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from edgescope.errors import EdgescopeError, InputError, NotDifferentiableError, one_of
from edgescope.memory import budget, require
from edgescope.objective.central_differences import Differences
from edgescope.objective.compiled import Compiled
from edgescope.objective.faults import fault_at
from edgescope.objective.graph_memory import GraphMemory, estimate_graph_memory, unused
from edgescope.objective.modules import thread_count
from edgescope.objective.path_checks import agree, disagreement, is_risky
from edgescope.objective.paths import DoubleBackward, ForwardOverReverse, GradientGraph, Path
from edgescope.objective.problem import Point, TrainingProblem
from edgescope.objective.timing_price import ProductTimes
from edgescope.objective.timings import shortest

PathName = Literal["kept", "kept-batched", "rebuilt", "rebuilt-batched", "forward", "compiled", "difference"]

WIDTHS = (1, 4, 8, 16)
"""Block widths that are timed; others use the next one, and wider blocks go through in pieces of the last."""

QUICK = 0.05
"""Seconds of a product up to which rivals are timed. Above, arithmetic dominates, and a kept graph was never beaten."""

_BASIS = 24
"""Vectors that kept graphs leave memory for: a basis of an eigen-solver, and what it returns."""

BUILD_SECONDS = 45.0
"""The longest compile time of a product that was observed (9 to 47 s), which a run must save again."""


@dataclass(frozen=True)
class Plan:
    """How products of blocks of up to ``width`` vectors are computed: the path, the threads, and what was timed.

    ``product_cost`` is the time of one product over that of one gradient, and ``gradient_seconds`` that of one
    gradient over all data of this process; NaN where nothing was timed: the caller fixed the path (and the threads).
    """

    path: str
    threads: int
    width: int
    product_cost: float = math.nan
    gradient_seconds: float = math.nan


class Planner:
    """Decides on which path and with how many threads a problem is measured.

    The first products of every width go through double backward, whose graphs are kept where memory allows, which needs
    no timing and was never far from the fastest. Rivals are timed once for each width, at a place whose graphs have not
    been built, as soon as what they could have saved so far pays for it (:class:`ProductTimes`): timing never takes
    more than twice what was known beforehand to be worth it, however long the run. :meth:`time` does not wait for that.
    """

    def __init__(
        self,
        problem: TrainingProblem,
        *,
        path: PathName | Literal["auto"],
        threads: int | str | None,
        expected_products: int | None,
        memory_limit: int | None,
        whole_batches: bool,
        check: bool,
    ) -> None:
        one_of(path, ("auto", *get_args(PathName)), "path")
        if path == "compiled" and not Compiled.possible():
            raise InputError("path='compiled' needs a C++ compiler, and none was found", hint="path='auto'")
        if threads not in ("auto", None) and (type(threads) is not int or threads < 1):
            raise InputError(f"threads = {threads!r}", expected="'auto', None or a number of at least 1")
        self.problem = problem
        self.memory_limit = memory_limit
        self.threads = threads if isinstance(threads, int) else None
        self.path = path
        self._fixed = None if path == "auto" else _path(path)
        self._threads_open = threads == "auto"
        self._expected_products = expected_products
        self._whole_batches = whole_batches
        self.checks = check
        self._gradient_seconds = math.nan
        self._memory: GraphMemory | None = None
        self._chosen: dict[int, tuple[Path, Plan]] = {}
        self._timed: set[int] = set()
        self._made: Counter[int] = Counter()
        self._times = ProductTimes()
        self._remembered: dict[int, str] = {}
        self._beside: bool | None = None  # whether graphs are kept beside the vectors that were made room for

    @property
    def differences(self) -> Differences | None:
        """The path, where it is that of differences of gradients, which is not summed over processes afterwards."""
        return self._fixed if isinstance(self._fixed, Differences) else None

    @property
    def wishes(self) -> tuple[Hashable, ...]:
        """What the caller wants of products, on which choices depend."""
        return self.path, self.memory_limit, self._expected_products, self._whole_batches

    def remember(self, paths: dict[int, str]) -> None:
        """Take over the fastest paths of other objectives of this kind, by block width, and add to them from now on."""
        self._remembered = paths

    def again(self, problem: TrainingProblem, whole_batches: bool) -> Planner:
        """A planner of another problem, with the same wishes; nothing that was timed is taken over."""
        return Planner(
            problem,
            path=self.path,
            threads=self.threads or "auto",
            expected_products=self._expected_products,
            memory_limit=self.memory_limit,
            whole_batches=whole_batches,
            check=self.checks,
        )

    def follow(self, other: Planner) -> None:
        """Do from now on as ``other`` does, whose problem has the same sizes and other samples."""
        self.threads, self._threads_open = other.threads, other._threads_open
        self._memory, self._chosen, self._gradient_seconds = other._memory, other._chosen, other._gradient_seconds
        self._timed, self._made, self._beside, self._times = other._timed, other._made, other._beside, other._times

    def known(self, width: int, graphs: bool) -> tuple[Path, Plan] | None:
        """The path for blocks of ``width`` vectors if it has been chosen before, and is not to be timed now.

        ``graphs``: whether those of the place are there, so that all products at a place take the same path.
        """
        step = _step(width)
        if step in self._chosen and not graphs and self._pays(step):
            return None
        return self._chosen.get(step)

    def made(self, width: int) -> None:
        """Take note of a block of products."""
        self._made[_step(width)] += width

    def took(self, seconds: float, width: int, graphs: Sequence[GradientGraph]) -> None:
        """Take note of how long it took, where kept graphs were all that it needed."""
        if self.problem.device.type == "cpu":  # elsewhere products may still be under way
            self._times.note(seconds / width, (root for graph in graphs for _, root in graph.roots))

    def choose(self, point: Point, width: int) -> tuple[Path, Plan]:
        """The path for blocks of ``width`` vectors, timed at ``point`` only where that pays."""
        width = _step(width)
        if self._fixed is None and width not in self._chosen:
            self._recall(point, width)
        if width not in self._timed and self._pays(width):
            return self._settled(point, width)
        if width not in self._chosen:
            path = self._fixed or DoubleBackward(keep=point.graphs is not None or self.keeps(self.prepare(point)))
            self._settle(point, width, path, math.nan)
        return self._chosen[width]

    def is_timed(self, width: int) -> bool:
        """Whether it is known how products of this width are computed, and what they take."""
        known = self._chosen.get(_step(width))
        return known is not None and (self._fixed is not None or not math.isnan(known[1].product_cost))

    def time(self, point: Point, width: int) -> Plan:
        """How products of blocks of ``width`` vectors are computed, and what they take; timed where it is not known.

        Rivals are timed where no product of this width has been computed so far, and else only the path in use.
        """
        width = _step(width)
        if self._fixed is None and width not in self._chosen:
            self._recall(point, width)
        if width not in self._chosen:
            self._settled(point, width)
        elif not self.is_timed(width):
            path, copied = self._chosen[width][0], dataclasses.replace(point)
            rows = torch.randn(1, point.flat.numel(), dtype=point.flat.dtype, device=point.flat.device)
            path.products(self.problem, copied, rows)
            self._time_gradient(point)
            self._settle(point, width, path, shortest(lambda: path.products(self.problem, copied, rows)))
        return self._chosen[width][1]

    def _recall(self, point: Point, width: int) -> None:
        """Choose the path that was fastest for another objective of this kind, if there is memory for it now."""
        path = _path(self._remembered[width]) if width in self._remembered else None
        memory = self.prepare(point)
        if path is not None and memory.needed(path, width) <= budget(self.problem.device, self.memory_limit):
            self._timed.add(width)
            self._settle(point, width, path, math.nan)

    def _pays(self, width: int) -> bool:
        """Whether rivals are still to be timed, and could have saved, or are expected to save, what that takes."""
        if self._fixed is not None or width in self._timed:
            return False
        known = self._chosen.get(width)
        if width == 1 and not self._expected_products and known is not None and known[0].keep:
            return False  # no rival
        return self._times.timing_pays(max(self._made[width], self._expected_products or 0), width)

    def _settled(self, point: Point, width: int) -> tuple[Path, Plan]:
        """The fastest path, which is timed now, once."""
        memory = self.prepare(point)
        self._timed.add(width)
        if self._fixed is not None:
            path, seconds = self._fixed, math.nan
        else:
            self._time_gradient(point)
            # On a copy of the point, so that what a run computes and counts does not depend on what was timed.
            path, seconds = self._fastest(dataclasses.replace(point), width, memory)
            self._remembered[width] = path.name
        self._settle(point, width, path, seconds)
        return self._chosen[width]

    def _time_gradient(self, point: Point) -> None:
        if math.isnan(self._gradient_seconds):
            self._gradient_seconds = shortest(lambda: self.problem.gradient(point))

    def _settle(self, point: Point, width: int, path: Path, seconds: float) -> None:
        memory = self.prepare(point)
        if self._fixed is not None and width not in self._chosen:
            self._require(memory, path, width)
            if self.checks:
                self._compare(path, point, width)
        threads = self.threads or torch.get_num_threads()
        cost = seconds / self._gradient_seconds
        self._chosen[width] = (path, Plan(path.name, threads, width, cost, self._gradient_seconds))

    def prepare(self, point: Point) -> GraphMemory:
        """Before the first derivative: cut batches until their graphs fit into memory, then settle the threads."""
        if self._memory is None:
            try:
                self._memory = estimate_graph_memory(
                    self.problem, point, self.memory_limit, self._whole_batches, once=self.differences is not None
                )
            except (RuntimeError, NotImplementedError, MemoryError) as error:
                raise fault_at(point, self.problem, error) from error
        if self._threads_open:
            self._settle_threads(point)
        return self._memory

    def keeps(self, memory: GraphMemory, beside: int = 0) -> bool:
        """Whether graphs of all data may stay, beside so many bytes and vectors that :meth:`room` has made room for."""
        if (self._fixed is not None and not self._fixed.keep) or self._beside is False:
            return False
        return beside + memory.needed(DoubleBackward(keep=True), 1) <= budget(self.problem.device, self.memory_limit)

    def checks_in_double(self, point: Point) -> bool:
        """Whether there is memory to compare derivatives in double precision."""
        memory = self.prepare(point)
        needed = memory.of_check(self.problem, torch.float64)
        if self.memory_limit is not None:  # which also counts what is there by now
            needed += 4 * point.flat.nbytes + (0 if point.graphs is None else memory.all_chunks)
        return needed <= budget(self.problem.device, self.memory_limit)

    def room(self, point: Point, least: int = 0) -> int:
        """The bytes within the limit that products leave for other vectors; to make it ``least``, graphs
        are no longer kept, and then batches are cut further, if they can be.
        """
        found = self._room(point)
        if found < least and (self._fixed is None or not self._fixed.keep):
            point.graphs = None
            self._chosen.clear()
            found = self._room(point)
        if found < least and self._cut_further(point, least - found):
            found = self._room(point)
        return found

    def _room(self, point: Point) -> int:
        memory, allowed = self.prepare(point), budget(self.problem.device, self.memory_limit)
        there, self._beside = point.graphs is not None, None
        wanted = there or (self._fixed is not None and self._fixed.keep)
        self._beside = kept = wanted or self.keeps(memory, _BASIS * point.flat.nbytes)
        needed = memory.needed(DoubleBackward(keep=kept), 1)
        if self.memory_limit is not None:
            needed += unused(self.memory_limit, point)
        elif there:
            needed -= memory.all_chunks  # which are no longer free
        return max(allowed - needed, 0)

    def _cut_further(self, point: Point, lacking: int) -> bool:
        """Cut batches so that the graph of one takes so much less, or as little as can be; whether they can be cut."""
        memory, batches = self.prepare(point), self.problem.batches
        samples = min(batches.largest, batches.cut or batches.largest)
        fewer = max(1, samples - math.ceil(lacking * samples / max(2 * memory.largest_chunk, 1)))
        if self._whole_batches or batches.uncut or fewer == samples:
            return False
        try:
            self.problem.cut(fewer, point, f"batches must be cut to {fewer} samples to leave memory for vectors")
        except InputError:
            return False
        self._memory = dataclasses.replace(memory, largest_chunk=memory.largest_chunk * fewer // samples)
        return True

    def _settle_threads(self, point: Point) -> None:
        """Choose one thread or as many as are set, whichever computes a gradient faster now; set them, too.

        Two threads that share their cores with another process wait for each other at every small operation: 50 times
        slower than one was seen. So this is timed, not assumed. The caller gives the user's setting back.
        """
        self._threads_open = False
        most = torch.get_num_threads()
        if most > 1:
            timings = {}
            for number in (most, 1):
                with thread_count(number):
                    timings[number] = shortest(lambda: self.problem.gradient(point))
            most = min(timings, key=lambda number: timings[number])
            self._gradient_seconds = timings[most]
        self.threads = most
        torch.set_num_threads(most)

    def _require(self, memory: GraphMemory, path: Path, width: int) -> None:
        require(
            memory.needed(path, width),
            f"path='{path.name}' with blocks of {width} vector{'s' * (width > 1)}",
            device=self.problem.device,
            limit=self.memory_limit,
            hint="path='auto' or 'rebuilt', or a higher memory_limit",
        )

    def _fastest(self, point: Point, width: int, memory: GraphMemory) -> tuple[Path, float]:
        """The path whose products take least time at this block width, and the seconds of one product.

        The reference is double backward, its graphs kept if they fit into memory; any other path has to give the same
        products before its time counts: all of a block, on a few samples in float64 and on all data. Where a product is
        slow nothing else is tried, and all costs some 5 gradients.
        """
        rows = torch.randn(width, point.flat.numel(), dtype=point.flat.dtype, device=point.flat.device)
        # Graphs stay only where they leave memory for vectors to multiply.
        keep = point.graphs is not None or self.keeps(memory, _BASIS * point.flat.nbytes)
        best: Path = DoubleBackward(keep=keep)
        try:
            reference = best.products(self.problem, point, rows[:1])
        except (RuntimeError, NotImplementedError, MemoryError) as error:
            raise fault_at(point, self.problem, error) from error
        seconds = shortest(lambda: best.products(self.problem, point, rows[:1]))
        if width > 1 and not best.keep and seconds < QUICK:
            seconds = shortest(lambda: best.products(self.problem, point, rows)) / width
        rivals = self._rivals(seconds, width, best.keep, memory)
        if rivals and width > 1:
            reference = best.products(self.problem, point, rows)
        for rival in rivals:
            took = self._time_of(rival, point, rows, reference, seconds)
            if took < 0.95 * seconds:
                best, seconds = rival, took
        return best, seconds

    def _rivals(self, seconds: float, width: int, keep: bool, memory: GraphMemory) -> list[Path]:
        """The paths worth timing against double backward that takes this long for a product."""
        paths: list[Path] = []
        if seconds < QUICK:
            if width > 1:
                paths.append(DoubleBackward(keep=keep, batched=True))
            if not keep:  # it was never seen to beat kept graphs, and its first use takes torch seconds to prepare
                paths.append(ForwardOverReverse())
            allowed = budget(self.problem.device, self.memory_limit)
            paths = [path for path in paths if memory.needed(path, width) <= allowed]
        expected = self._expected_products or 0
        if expected * seconds > 10 * BUILD_SECONDS and Compiled.possible():
            paths.append(Compiled())
        return paths

    def _compare(self, path: Path, point: Point, width: int) -> None:
        """Refuse a path that the caller asked for where torch makes another product of it than double backward."""
        if isinstance(path, Differences) or (isinstance(path, DoubleBackward) and not path.batched):
            return
        fault = disagreement(self.problem, point, path, width)
        if fault:
            raise NotDifferentiableError(f"path='{path.name}' {fault} for this model", hint="path='auto'")

    def _time_of(self, rival: Path, point: Point, rows: Tensor, reference: Tensor, beat: float) -> float:
        """Seconds of one product on this path; infinite where it fails, is wrong, or is far from the time to beat."""
        try:
            if is_risky(self.problem, point, rival):
                return math.inf
            if not rival.builds and disagreement(self.problem, point, rival, len(rows)):
                return math.inf
            if not agree(rival.products(self.problem, point, rows), reference):
                return math.inf
            return shortest(lambda: rival.products(self.problem, point, rows), beat=beat * len(rows)) / len(rows)
        except (RuntimeError, NotImplementedError, EdgescopeError, TypeError, ValueError, MemoryError):
            return math.inf  # no such derivative for some operation of this model


def _path(name: str) -> Path:
    if name in ("difference", "forward", "compiled"):
        return {"difference": Differences, "forward": ForwardOverReverse}.get(name, Compiled)()
    return DoubleBackward(keep=name.startswith("kept"), batched=name.endswith("batched"))


def _step(width: int) -> int:
    return next((step for step in WIDTHS if width <= step), WIDTHS[-1])
