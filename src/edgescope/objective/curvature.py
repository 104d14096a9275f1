"""Derivatives of a problem at a point: gradients, Hessian products and Gauss-Newton products, on the planned path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from jaxtyping import Float
from torch import Tensor

from edgescope.allocator import return_freed_memory
from edgescope.arithmetic import plain_arithmetic
from edgescope.errors import EdgescopeError
from edgescope.objective.central_differences import Differences, refuse_kinks
from edgescope.objective.gauss_newton import gauss_newton_products
from edgescope.objective.gauss_newton_check import refuse_wrong_gauss_newton
from edgescope.objective.modes import Flags
from edgescope.objective.modules import measuring, thread_count
from edgescope.objective.paths import Path
from edgescope.objective.plan import WIDTHS, Plan, Planner
from edgescope.objective.problem import Point, TrainingProblem
from edgescope.objective.remembered import Findings, findings
from edgescope.objective.second_order import named_fault, refuse_wrong_hessian


class Curvature:
    """What is computed at a point of a problem, and how; ``verified``: second derivatives need not be checked.

    Everything refers to this process's share of the data. Products come with the number of gradients that building
    their graphs has taken (0 where they were there).
    """

    def __init__(self, problem: TrainingProblem, planner: Planner, flags: Flags, *, verified: bool) -> None:
        self.problem, self.planner, self.flags = problem, planner, flags
        self.verified = verified
        self._gauss_newton_verified = verified
        self._exact: bool | None = None

    @contextmanager
    def ready(self, point: Point, derivatives: bool = True) -> Iterator[None]:
        """The model set for measuring, with the threads that were planned."""
        with thread_count(self.planner.threads), measuring(self.problem.model, self.flags, self.problem.device):
            if derivatives:
                with self.problem.preparing():
                    self.planner.prepare(point)
            yield

    def plan(self, point: Point, width: int) -> Plan:
        """How products of blocks of ``width`` vectors are computed, timed where it was not known."""
        if not self.planner.is_timed(width):
            with self.ready(point), self.problem.preparing():
                self._verify(point)
                self.planner.time(point, width)
        return self.planner.time(point, width)

    def room(self, point: Point, least: int, group: distributed.ProcessGroup | None, hessian: bool = True) -> int:
        """The bytes that vectors may take beside what products need at this point: ``least`` if that can be.

        The smallest over the processes of the group, which have to do the same. Second derivatives are checked now, and
        freed memory goes back to the system, while there are no other vectors yet.
        """
        with self.ready(point):
            if hessian:
                with self.problem.preparing():
                    self._verify(point)
            if point.flat.device.type == "cpu":
                return_freed_memory(point.flat.nbytes)
            room = self.planner.room(point, least)
        if group is None:
            return room
        smallest = torch.tensor(room, device=self.problem.device)
        distributed.all_reduce(smallest, op=distributed.ReduceOp.MIN, group=group)
        return int(smallest)

    def gradient(self, point: Point) -> int:
        """Put the gradient into ``point``, the same bits whatever was computed before; the gradients this has taken.

        The gradient of graphs is taken where this model's kernels round it as a plain backward pass does, which is
        found out once, and counted as preparation.
        """
        known = point.graph_gradient
        if point.gradient is None and known is not None and self._is_exact(point, known):
            point.gradient = known
        if point.gradient is not None:
            return 0
        with self.ready(point):
            point.loss, point.gradient = self.problem.gradient(point)
        return 1

    def hessian(self, point: Point, rows: Float[Tensor, "k P"]) -> tuple[Float[Tensor, "k P"], int]:
        """Hessian products of the rows."""
        self.planner.made(len(rows))
        known = self.planner.known(len(rows), point.graphs is not None)
        if known is not None and known[0].keep and point.graphs is not None:
            # The graphs are there: no code of the model runs, so nothing of it has to be switched.
            began = time.perf_counter()
            with thread_count(self.planner.threads), plain_arithmetic():
                products = self._multiplied(known[0], point, rows)
            self.planner.took(time.perf_counter() - began, len(rows), point.graphs)
            return products, 0
        with self.ready(point):
            with self.problem.preparing():
                self._verify(point)
                path, _ = self.planner.choose(point, len(rows))
            built = point.graphs is None
            return self._multiplied(path, point, rows), int(path.keep and built)

    def differences(
        self, path: Differences, summed: Callable[[Tensor], Tensor], point: Point, rows: Float[Tensor, "k P"]
    ) -> tuple[Float[Tensor, "k P"], int]:
        """Hessian products of the rows by differences of gradients, over the data of all processes."""
        with self.ready(point):
            with self.problem.preparing():
                self._verify(point)
                self.planner.choose(point, len(rows))
            built = point.gradient is None
            try:
                return path.over_processes(self.problem, point, rows, summed), int(built)
            except (RuntimeError, NotImplementedError, MemoryError) as error:
                raise named_fault(error) from error

    def gauss_newton(
        self, point: Point, rows: Float[Tensor, "k P"], supervised: Any
    ) -> tuple[Float[Tensor, "k P"], int]:
        """Gauss-Newton products of the rows."""
        with self.ready(point):
            room = self.planner.prepare(point)
            beside = 0 if point.graphs is None else room.all_chunks
            keep = point.output_graphs is not None or self.planner.keeps(room, beside)
            built = point.output_graphs is None
            if not self._gauss_newton_verified:
                with self.problem.preparing():
                    self._gauss_newton_verified = refuse_wrong_gauss_newton(
                        self.problem, point, supervised, self.planner.checks_in_double(point)
                    )
            try:
                result = gauss_newton_products(self.problem, point, rows, supervised, keep)
            except (RuntimeError, NotImplementedError, MemoryError) as error:
                raise named_fault(error) from error
        return result, int(keep and built)

    def _verify(self, point: Point) -> None:
        """Check second derivatives, unless this objective has, or one of the same kind has in this process."""
        if self.verified:
            return
        if self.planner.differences is not None:
            refuse_kinks(self.problem, point)
            self.verified = True
            return
        known = self._known(point)
        if not known.verified:
            known.verified = refuse_wrong_hessian(self.problem, point, self.planner.checks_in_double(point))
        self.verified = known.verified
        if self.verified:
            self.planner.remember(known.paths)

    def _known(self, point: Point) -> Findings:
        try:
            return findings(self.problem, point, self.flags, *self.planner.wishes)
        except (RuntimeError, TypeError, ValueError, AttributeError, MemoryError, EdgescopeError):
            return Findings()  # the check that follows says why

    def _is_exact(self, point: Point, known: Tensor) -> bool:
        if self._exact is None:
            with self.ready(point), self.problem.preparing():
                self._exact = torch.equal(self.problem.gradient(point)[1], known)
        return self._exact

    def _multiplied(self, path: Path, point: Point, rows: Tensor) -> Tensor:
        try:
            parts = [path.products(self.problem, point, piece) for piece in rows.split(WIDTHS[-1])]
        except (RuntimeError, NotImplementedError, MemoryError) as error:
            raise named_fault(error) from error
        return parts[0] if len(parts) == 1 else torch.cat(parts)
