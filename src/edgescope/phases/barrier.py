"""The barrier between two solutions: the minimum-energy path that joins them, by a nudged elastic band."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg import top_eigenpairs
from edgescope.linalg.arguments import as_tensor
from edgescope.memory import require
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.objective.modules import unwrapped
from edgescope.options import check_function, checked, instance_of, integer, optional, real
from edgescope.progress import Progress

SPRING = 0.1
"""Stiffness of the band, as a fraction of the largest curvature found on the straight line."""

MISSED = 0.01
"""Halfway between two images the path may be higher than all images by this fraction of the height (or of a tenth of
the rise along the straight line, where that is larger); if it is higher, the images missed a maximum."""

MAX_DOUBLINGS = 2
"""How often the images are doubled where they missed a maximum."""


@in_notebooks
@dataclass(frozen=True, eq=False)
class Barrier:
    """A path from one solution over a saddle to another, with the height of the barrier in the unit of the loss.

    ``height`` is the loss at the saddle minus that at the start, ``reverse_height`` minus that at the end. ``error`` of
    both is the estimated distance in loss to the nearest stationary point, from gradient and curvature at the saddle,
    or, where larger, the rise of the path halfway between two images. For a path that has not converged it also
    includes the largest gradient times half the distance between two images, which is a rough estimate.

    ``path`` (images, P) includes both ends, and ``losses`` are its losses. ``residual`` is the norm of the gradient at
    the saddle, and ``converged`` says whether it fell below the tolerance. ``across`` is the largest norm of a gradient
    component perpendicular to the path, which is 0 on a minimum-energy path. Where there is no barrier the highest
    point of the path is one of its ends. ``mode`` is that of the objective.
    """

    height: float
    reverse_height: float
    error: float
    saddle: Float[Tensor, " P"]
    path: Float[Tensor, "images P"]
    losses: Float[Tensor, " images"]
    residual: float
    across: float
    converged: bool
    steps: int
    cost: Cost
    mode: str | None = None


@checked(
    objective=instance_of(Objective),
    images=integer(1),
    steps=integer(1),
    tol=real(above=0),
    progress=optional(check_function),
)
@in_plain_arithmetic
def barrier(
    objective: Objective,
    start: Float[Tensor, " P"] | nn.Module,
    end: Float[Tensor, " P"] | nn.Module,
    *,
    images: int = 11,
    steps: int = 1000,
    tol: float = 1e-3,
    through: Float[Tensor, "k P"] | None = None,
    progress: Progress | None = None,
) -> Barrier:
    """A minimum-energy path between two solutions, by a nudged elastic band, and the height of its highest point.

    Args:
        objective: the loss, weight decay included (``l2=``). Low barriers need float64.
        start, end: parameter vectors (P,), or models of the objective's architecture; both ends are fixed. Solutions
            of separate training runs also differ by symmetries (permuted units): the path has to undo these, and may be
            higher than the barrier itself. Those of a deep linear network differ by rotations of its hidden layers,
            which cost nothing. The band moves along such valleys, but cannot leave a state of lower rank, which the
            straight line passes for large rotations; use ``through=rotation(objective, start, end)`` then.
        images: number of points between the ends. They are doubled, at most twice, where the path is higher between
            them.
        steps: the largest number of steps of the band.
        tol: the band has converged when the gradient at the saddle is below this fraction of the largest gradient on
            the straight line.
        through: points (k, P) through which the initial path leads, in order; by default it is a straight line. The
            result is the lowest path near the initial one, not of all paths: if ``losses`` has several maxima, try
            another.
        progress: is called with the fraction of the steps and a line of text.

    Raises :class:`InputError` for solutions of different models, for equal solutions, and for losses that are not
    finite. Cost: ``images`` gradients and losses for each step, about ten Hessian products at the start, and one
    product and a loss for each image at the end.

    Source: Henkelman, Uberuaga, Jonsson 2000 (climbing image, improved tangents); Jonsson, Mills, Jacobsen 1998 (the
    optimizer).
    """
    require(3 * images * objective.size * objective.dtype.itemsize, f"a band of {images:,} images", hint="fewer images")
    before = objective.spent
    ends = [_point(objective, point, name) for point, name in ((start, "start"), (end, "end"))]
    if torch.equal(ends[0], ends[1]):
        raise InputError("start and end have the same parameters", expected="two different solutions")
    band = _Band(objective, _between(ends, None, images), tol)
    if through is not None:
        band.move(_between(ends, _corners(objective, through), images))
    taken = band.relax(steps, progress)
    losses = band.losses
    top = int(losses.argmax())
    saddle, error = band.points[top], max(0.0, float(band.halfway()[1].max() - losses[top]))
    if 0 < top < len(losses) - 1:
        gradient = objective.gradient(saddle)
        curvature = float(gradient @ objective.hvp(gradient, saddle))
        squared = float(gradient @ gradient)
        error = max(error, 0.0 if squared == 0 else squared**2 / (2 * abs(curvature)) if curvature else math.inf)
    if not band.converged:
        error = max(error, band.stride * max(band.residual, band.across))
    height, reverse_height = (float(losses[top] - losses[side]) for side in (0, -1))
    return Barrier(
        height=height,
        reverse_height=reverse_height,
        error=error,
        saddle=saddle,
        path=band.points,
        losses=losses,
        residual=band.residual,
        across=band.across,
        converged=band.converged,
        steps=taken,
        cost=objective.spent - before,
        mode=objective.mode,
    )


class _Band:
    """Images joined by springs: the gradient acts across the path, the springs along it; the highest image climbs."""

    def __init__(self, objective: Objective, points: Float[Tensor, "n P"], tol: float) -> None:
        self.objective = objective
        self.move(points)
        middle = points[int(self.losses.argmax())]
        found = [top_eigenpairs(objective.operator(w), k=1, tol=0.1) for w in (points[0], middle, points[-1])]
        curvature = max(float(pairs.values[0]) for pairs in found)
        self._step = 0.5 / math.sqrt(max(curvature, 1e-12))
        self._spring = SPRING * curvature
        self._rise = float(self.losses.max() - self.losses[[0, -1]].min())
        self.stride = float((points[1:] - points[:-1]).norm(dim=1).max()) / 2
        self._limit = tol * float(self._gradients[1:-1].norm(dim=1).max())
        self.residual, self.across, self.converged = math.inf, math.inf, False

    def move(self, points: Float[Tensor, "n P"]) -> None:
        """Start the band from these points."""
        self.points = points
        self.losses, self._gradients = torch.zeros(len(points), dtype=torch.float64), torch.zeros_like(points)
        for place in range(len(points)):
            self._evaluate(place)
        if not torch.isfinite(self.losses).all():
            raise InputError("the loss is not finite on the way from start to end")

    def relax(self, steps: int, progress: Progress | None) -> int:
        """Move the band until the highest image is stationary; returns the number of steps."""
        velocity, doublings = torch.zeros_like(self.points), MAX_DOUBLINGS
        tiny = torch.finfo(self.points.dtype).tiny
        for taken in range(steps):
            forces = self._forces()
            if self.converged:
                if not doublings or not self._refine():
                    return taken
                doublings, velocity, forces = doublings - 1, torch.zeros_like(self.points), self._forces()
            # Each image keeps only the component of its velocity along its own force, and none where that is uphill:
            # the projected forces are not the gradient of any function, and inertia of the band as a whole would grow.
            along = (velocity * forces).sum(1, keepdim=True).clamp_min(0)
            squared = forces.square().sum(1, keepdim=True).clamp_min(tiny)
            velocity = (along / squared + self._step) * forces
            move = self._step * velocity
            self.points = self.points + move * (self.stride / move.norm(dim=1, keepdim=True).clamp_min(tiny)).clamp_max(
                1
            )
            for place in range(1, len(self.points) - 1):
                self._evaluate(place)
            if not torch.isfinite(self.losses).all():
                raise InputError("the path diverged: its losses are not finite", hint="more images, or float64")
            if progress:
                progress((taken + 1) / steps, f"path, gradient {self.residual:.2e} (limit {self._limit:.2e})")
        self._forces()
        return steps

    def halfway(self) -> tuple[Float[Tensor, "m P"], Float[Tensor, " m"]]:
        """The points halfway between images, and their losses."""
        points = (self.points[1:] + self.points[:-1]) / 2
        return points, torch.stack([self.objective.loss(point) for point in points]).to(self.losses)

    def _refine(self) -> bool:
        """Double the images where the path is well above all of them halfway between two; returns whether it was."""
        points, losses = self.halfway()
        top, low = float(self.losses.max()), float(self.losses[[0, -1]].min())
        if float(losses.max()) <= top + MISSED * max(top - low, 0.1 * self._rise):
            return False
        both = torch.stack([self.points[:-1], points], 1).flatten(0, 1)
        self.move(torch.cat([both, self.points[-1:]]))
        return True

    def _evaluate(self, place: int) -> None:
        self._gradients[place] = self.objective.gradient(self.points[place])
        self.losses[place] = float(self.objective.loss(self.points[place]))

    def _forces(self) -> Float[Tensor, "n P"]:
        forces, across = torch.zeros_like(self.points), torch.zeros(len(self.points))
        top = int(self.losses.argmax())
        inside = 0 < top < len(self.losses) - 1
        for i in range(1, len(self.points) - 1):
            ahead, behind = self.points[i + 1] - self.points[i], self.points[i] - self.points[i - 1]
            tangent = self._tangent(i, ahead, behind)
            gradient = self._gradients[i]
            along = (gradient @ tangent) * tangent
            across[i] = (gradient - along).norm()
            if i == top:
                forces[i] = 2 * along - gradient
            else:
                forces[i] = along - gradient + self._spring * (ahead.norm() - behind.norm()) * tangent
        self.residual = float(self._gradients[top].norm()) if inside else 0.0
        self.across = float(across.max())
        # Without a saddle no image climbs, and the path as a whole has to converge.
        self.converged = (self.residual if inside else self.across) < self._limit
        return forces

    def _tangent(self, i: int, ahead: Tensor, behind: Tensor) -> Tensor:
        """Towards the higher neighbour; at an extremum, an average weighted by the differences in loss."""
        up, down = float(self.losses[i + 1] - self.losses[i]), float(self.losses[i] - self.losses[i - 1])
        if up > 0 and down > 0:
            tangent = ahead
        elif up < 0 and down < 0:
            tangent = behind
        else:
            large, small = max(abs(up), abs(down)), min(abs(up), abs(down))
            a, b = (large, small) if self.losses[i + 1] > self.losses[i - 1] else (small, large)
            tangent = a * ahead + b * behind if large > 0 else ahead + behind
        return tangent / tangent.norm().clamp_min(torch.finfo(tangent.dtype).tiny)


def _between(ends: list[Tensor], through: Tensor | None, images: int) -> Float[Tensor, "n P"]:
    """Points evenly spaced along the line from one end to the other, through the points given."""
    corners = torch.stack([ends[0], *([] if through is None else through), ends[1]])
    lengths = torch.cat([corners.new_zeros(1), (corners[1:] - corners[:-1]).norm(dim=1).cumsum(0)])
    at = torch.linspace(0, float(lengths[-1]), images + 2, dtype=lengths.dtype)
    place = torch.searchsorted(lengths, at, right=True).clamp(1, len(corners) - 1)
    share = ((at - lengths[place - 1]) / (lengths[place] - lengths[place - 1]))[:, None]
    points = corners[place - 1] + share * (corners[place] - corners[place - 1])
    points[0], points[-1] = ends
    return points


def _corners(objective: Objective, through: Tensor) -> Float[Tensor, "k P"]:
    through = as_tensor("through", through, f"points of shape (k, {objective.size})")
    if through.ndim != 2 or through.shape[1] != objective.size:
        raise InputError(f"through of shape {tuple(through.shape)}", expected=f"shape (k, {objective.size})")
    return through.detach().to(objective.device, objective.dtype)


def _point(objective: Objective, point: Tensor | nn.Module, name: str) -> Float[Tensor, " P"]:
    """A solution as a vector of the objective, or an error that says how its model differs."""
    if isinstance(point, nn.Module):
        found = {n: p for n, p in unwrapped(point).named_parameters() if p.requires_grad}
        for slot in objective.layout:
            if slot.name not in found or tuple(found[slot.name].shape) != tuple(slot.shape):
                shape = tuple(found[slot.name].shape) if slot.name in found else "missing"
                raise InputError(
                    f"{name} is a solution of another model: its {slot.name} is {shape}",
                    expected=f"{tuple(slot.shape)}, as in the objective's model",
                )
        if len(found) != len(list(objective.layout)):
            raise InputError(f"{name} is a solution of another model, with more parameters than the objective's")
        point = torch.cat([found[slot.name].detach().flatten() for slot in objective.layout])
    point = as_tensor(name, point, "a parameter vector, or a model of the objective's architecture")
    if point.shape != (objective.size,):
        raise InputError(
            f"{name} is a solution of another model: it has shape {tuple(point.shape)}",
            expected=f"({objective.size},), the parameters of the objective",
        )
    return point.detach().to(objective.device, objective.dtype).clone()
