"""The lower bound: Frank-Wolfe ascent of d'Hd over the unit ball, many starts as one block."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgescope.geometry.geometry import Geometry
from edgescope.linalg import Operator

_NEAR_0 = 1e-2  # a norm; closer to 0, scaling up would magnify the rounding of H d


@dataclass(frozen=True)
class Climb:
    """Where each start ended: a point of the sphere, H times it, its d'Hd, and whether its last step gained little."""

    points: Float[Tensor, "P k"]
    images: Float[Tensor, "P k"]
    values: Float[Tensor, " k"]
    settled: Bool[Tensor, " k"]

    def best(self) -> int:
        return int(self.values.argmax())


def inner(left: Float[Tensor, "P k"], right: Float[Tensor, "P k"]) -> Float[Tensor, " k"]:
    """Inner products of columns, summed in float64."""
    return torch.einsum("pk,pk->k", left.double(), right.double())


def best_share(start: Tensor, cross: Tensor, end: Tensor) -> Tensor:
    """The share t in [0, 1] that maximises (1-t)^2 start + 2 t (1-t) cross + t^2 end, elementwise."""
    curvature = start - 2 * cross + end
    concave = (cross - start) / torch.where(curvature < 0, -curvature, 1.0)
    return torch.where(curvature < 0, concave.clamp(0, 1), (end > start).to(start))


def climb(
    operator: Operator,
    geometry: Geometry,
    starts: Float[Tensor, "P k"],
    iterations: int,
    tol: float,
    all_until: int | None = None,
) -> Climb:
    """Frank-Wolfe with exact line search from every column, each until a step gains no more than tol |value|.

    After ``all_until`` steps only the best column continues. The linear maximisation oracle takes the gradient Hd.
    Where the form is convex along the segment the step goes to its end (a power step), where it is concave, to the
    maximum of the parabola; the point is scaled back to the sphere if that raises the value. The value never decreases,
    and a step needs one product for each start, since H is linear. A column that ends below 0 inside the ball may be
    lower than its start once it is scaled to the sphere: then the start is returned.

    Source: Frank and Wolfe 1956; the fixed steps of Islamov et al. 2026 are :func:`frank_wolfe`.
    """
    points = geometry.to_sphere(starts)
    images = operator @ points
    values = inner(points, images)
    start = Climb(points.clone(), images.clone(), values.clone(), torch.ones_like(values, dtype=torch.bool))
    settled = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    for step in range(iterations):
        moving = (~settled).nonzero()[:, 0]
        if all_until is not None and step >= all_until:
            moving = moving[moving == values.argmax()]
        if not len(moving):
            break
        here, image = points[:, moving], images[:, moving]
        target = geometry.steepest(image)
        far = operator @ target
        share = best_share(values[moving], inner(target, image), inner(target, far)).to(here)
        here, image = here.lerp(target, share), image.lerp(far, share)
        norm = geometry.norm(here)
        back = torch.where((inner(here, image) > 0) & (norm > _NEAR_0), norm, 1.0).to(here)
        points[:, moving], images[:, moving] = here / back, image / back
        gained = inner(points[:, moving], images[:, moving])
        settled[moving] = gained - values[moving] <= tol * gained.abs()
        values[moving] = gained
    end = on_sphere(geometry, points, images, settled)
    fell = start.values > end.values
    return Climb(*(torch.where(fell, getattr(start, f.name), getattr(end, f.name)) for f in fields(Climb)))


def frank_wolfe(operator: Operator, geometry: Geometry, starts: Float[Tensor, "P k"], iterations: int) -> Climb:
    """Islamov et al. 2026: v <- (1 - c) v + c s, s the oracle at Hv, c = 2/(2 + step), scaled at the end."""
    points = geometry.to_sphere(starts)
    for step in range(iterations):
        target = geometry.steepest(operator @ points)
        points = points.lerp(torch.where(target.any(0), target, points), 2 / (2 + step))
    points = geometry.to_sphere(points)
    settled = torch.ones(points.shape[1], dtype=torch.bool, device=points.device)
    return on_sphere(geometry, points, operator @ points, settled)


def on_sphere(geometry: Geometry, points: Tensor, images: Tensor, settled: Tensor) -> Climb:
    """The end of an ascent, scaled to norm 1; a point near 0, whose direction is rounding, has the value -inf."""
    norm = geometry.norm(points)
    known = norm > _NEAR_0
    scale = torch.where(known, norm, 1.0)
    points, images = points / scale, images / scale
    return Climb(points, images, torch.where(known, inner(points, images), -torch.inf), settled)
