"""The barrier between two solutions: the minimum-energy path that joins them, by a nudged elastic band."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg import top_eigenpairs
from edgescope.objective import Objective
from edgescope.objective.modules import unwrapped

Progress = Callable[[float, str], None]

SPRING = 0.1
"""Stiffness of the band over the largest curvature met on the straight line."""

MISSED = 0.01
"""Half way between images the path may rise above them by this share of the height, or of a tenth of the rise of the
straight line; with more they stepped over a hump."""

LOOKS = 2
"""How often, at most, images are doubled for such humps."""


@dataclass(frozen=True, eq=False)
class Barrier:
    """A path from one solution over a saddle to another.

    ``height`` is the loss at the saddle over that at the start, ``back`` over that at the end. ``error`` of both is how
    far the loss of the nearest stationary point lies off, from gradient and curvature there, or, where more, how much
    higher the path lies half way between two images. Of a path that has not converged it is also what the gradients
    come to over half the distance of two images, an estimate and no more. ``path`` (images, P) holds both ends,
    ``losses`` its losses. ``residual`` is the norm of the gradient at the saddle, ``converged`` whether it fell below
    the tolerance, and ``across`` the largest gradient across the path: how far the rest of it is from rest. Without a
    barrier the highest point is an end, the height that of its loss.
    """

    height: float
    back: float
    error: float
    saddle: Float[Tensor, " P"]
    path: Float[Tensor, "images P"]
    losses: Float[Tensor, " images"]
    residual: float
    across: float
    converged: bool
    steps: int
    cost: Cost


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
    """The lowest path between two solutions, both held fixed, and the height of its highest point.

    Args:
        objective: the loss, weight decay included (``l2=``). Where barriers are low, in float64.
        start, end: parameter vectors, or models of the objective's architecture. Solutions that were trained apart
            also differ by symmetries (permuted units); the path then has to undo these and may be higher than needed.
            Those of a deep linear network differ by turns of its hidden layers, which need not cost anything: the band
            slides along such valleys, but not out of a state of lower rank that the straight line leads through, as it
            does for large turns; let it begin with ``through=rotation(objective, start, end)``.
        images: points between the ends.
        steps: at most so many of the band.
        tol: stop when the gradient at the saddle is below this share of the largest on the straight line.
        through: points that the first guess passes, in order (a straight line by default). The path found is the
            lowest near the guess, not of all: with a dip in ``losses`` try another guess.

    Raises :class:`InputError` for solutions of different models, of the same parameters, or with losses that are not
    finite. Cost: ``images`` gradients a step; some ten Hessian products at the start; one, and a
    loss an image, at the end. Images are doubled, twice at most, where the path rises between them.

    Source: Henkelman, Uberuaga, Jonsson 2000 (climbing image, improved tangents); Jonsson, Mills, Jacobsen 1998 (how it
    descends).
    """
    if images < 1 or steps < 1 or not tol > 0:
        raise InputError(
            f"{images} images, {steps} steps, tol={tol:g}", expected="at least one of both, and a positive tolerance"
        )
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
    height, back = (float(losses[top] - losses[side]) for side in (0, -1))
    return Barrier(
        height=height,
        back=back,
        error=error,
        saddle=saddle,
        path=band.points,
        losses=losses,
        residual=band.residual,
        across=band.across,
        converged=band.converged,
        steps=taken,
        cost=objective.spent - before,
    )


class _Band:
    """Images joined by springs: each feels the gradient across the path, the springs along it; the highest climbs."""

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
        self._enough = tol * float(self._gradients[1:-1].norm(dim=1).max())
        self.residual, self.across, self.converged = math.inf, math.inf, False

    def move(self, points: Float[Tensor, "n P"]) -> None:
        """Let the band begin here."""
        self.points = points
        self.losses, self._gradients = torch.zeros(len(points), dtype=torch.float64), torch.zeros_like(points)
        for place in range(len(points)):
            self._look(place)
        if not torch.isfinite(self.losses).all():
            raise InputError("the loss is not finite on the way from start to end")

    def relax(self, steps: int, progress: Progress | None) -> int:
        """Descend until the highest image rests; the number of steps taken."""
        velocity, looks = torch.zeros_like(self.points), LOOKS
        for taken in range(steps):
            forces = self._forces()
            if self.converged:
                if not looks or not self._missed():
                    return taken
                looks, velocity, forces = looks - 1, torch.zeros_like(self.points), self._forces()
            # Every image by itself keeps the velocity along its force, and none where it runs uphill: the projections
            # on tangents are no gradient of anything, and inertia shared by all images feeds on that.
            along = (velocity * forces).sum(1, keepdim=True).clamp_min(0)
            squared = forces.square().sum(1, keepdim=True).clamp_min(1e-300)
            velocity = (along / squared + self._step) * forces
            move = self._step * velocity
            self.points = self.points + move * (self.stride / move.norm(dim=1, keepdim=True)).clamp_max(1)
            for place in range(1, len(self.points) - 1):
                self._look(place)
            if progress:
                progress((taken + 1) / steps, f"path, gradient {self.residual:.2e} of {self._enough:.2e}")
        self._forces()
        return steps

    def halfway(self) -> tuple[Float[Tensor, "m P"], Float[Tensor, " m"]]:
        """Points half way between images, and their losses."""
        points = (self.points[1:] + self.points[:-1]) / 2
        return points, torch.stack([self.objective.loss(point) for point in points]).to(self.losses)

    def _missed(self) -> bool:
        """Whether the path rises well above all images half way between two; if so there are images there now."""
        points, losses = self.halfway()
        top, low = float(self.losses.max()), float(self.losses[[0, -1]].min())
        if float(losses.max()) <= top + MISSED * max(top - low, 0.1 * self._rise):
            return False
        both = torch.stack([self.points[:-1], points], 1).flatten(0, 1)
        self.move(torch.cat([both, self.points[-1:]]))
        return True

    def _look(self, place: int) -> None:
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
        # Without a saddle there is nothing to climb: the path as a whole has to rest.
        self.converged = (self.residual if inside else self.across) < self._enough
        return forces

    def _tangent(self, i: int, ahead: Tensor, behind: Tensor) -> Tensor:
        """Towards the higher neighbour; at an extremum both, weighted by how much higher they lie."""
        up, down = float(self.losses[i + 1] - self.losses[i]), float(self.losses[i] - self.losses[i - 1])
        if up > 0 and down > 0:
            tangent = ahead
        elif up < 0 and down < 0:
            tangent = behind
        else:
            large, small = max(abs(up), abs(down)), min(abs(up), abs(down))
            a, b = (large, small) if self.losses[i + 1] > self.losses[i - 1] else (small, large)
            tangent = a * ahead + b * behind if large > 0 else ahead + behind
        return tangent / tangent.norm().clamp_min(1e-300)


def _between(ends: list[Tensor], through: Tensor | None, images: int) -> Float[Tensor, "n P"]:
    """Points evenly spaced along the broken line from one end to the other."""
    corners = torch.stack([ends[0], *([] if through is None else through), ends[1]])
    lengths = torch.cat([corners.new_zeros(1), (corners[1:] - corners[:-1]).norm(dim=1).cumsum(0)])
    at = torch.linspace(0, float(lengths[-1]), images + 2, dtype=lengths.dtype)
    place = torch.searchsorted(lengths, at, right=True).clamp(1, len(corners) - 1)
    share = ((at - lengths[place - 1]) / (lengths[place] - lengths[place - 1]))[:, None]
    points = corners[place - 1] + share * (corners[place] - corners[place - 1])
    points[0], points[-1] = ends
    return points


def _corners(objective: Objective, through: Tensor) -> Float[Tensor, "k P"]:
    if through.ndim != 2 or through.shape[1] != objective.size:
        raise InputError(
            f"points of shape {tuple(through.shape)} to go through", expected=f"(any number, {objective.size})"
        )
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
    if point.shape != (objective.size,):
        raise InputError(
            f"{name} is a solution of another model: it has shape {tuple(point.shape)}",
            expected=f"({objective.size},), the parameters of the objective",
        )
    return point.detach().to(objective.device, objective.dtype).clone()
