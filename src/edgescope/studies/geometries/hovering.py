"""The claims about where sharpness and smoothness stay: in every norm around its own threshold."""

from __future__ import annotations

import numpy as np

from edgescope.claims import Region
from edgescope.studies.geometries.descents import Descent, descents
from edgescope.studies.sources import ISLAMOV
from edgescope.studies.tested_claim import Measured, Open, TestedClaim, claim

METHODS = {
    "gd": "gradient descent",
    "preconditioned": "preconditioned gradient descent (a random positive diagonal)",
    "linf": "Linf descent",
    "blocks": "block coordinate descent",
    "spectral": "Spectral descent",
}

AFTER = (
    "The mean over time from the first crossing on, with an interval that takes autocorrelation into account. S is the "
    "value from below, as in the paper; beside it is the certificate from above, a mean over every fourth reading."
)
FROM_D = "D counts from its own first crossing, or from that of S where it never crosses. It is measured at every step."


def _sharpness(run: Descent) -> Measured | Open:
    mean = run.sharpness.mean_after_arrival()
    return mean if isinstance(mean, Open) else Measured(mean, {"certified upper end": run.upper_mean})


def _smoothness(run: Descent) -> Measured | Open:
    if run.not_at_edge:
        return run.not_at_edge
    mean = run.smoothness_mean
    return mean if isinstance(mean, Open) else Measured(mean)


def _hovers(method: str, words: str) -> tuple[TestedClaim[Descent], ...]:
    """Smoothness at the threshold, sharpness around or above it, and sharpness close to it."""
    each, start = descents(method=method), words[0].upper() + words[1:]
    smooth = claim(
        f"geometries.{method}-smoothness",
        sentence=f"Under {words} the directional smoothness rises to 2/η and hovers there",
        source=ISLAMOV,
        quantity="mean over time of D over 2/η",
        region=Region.around(1.0, 0.10),
        origin="the tolerance given with the claim: 10%",
        status="second hand",
        each=each,
        figure="settled",
        how=FROM_D,
    )(_smoothness)
    above = claim(
        f"geometries.{method}-sharpness",
        sentence=f"Under {words} the sharpness in its norm rises to 2/η and hovers around or above it",
        source=ISLAMOV,
        quantity="mean over time of S over 2/η",
        region=(0.9, np.inf),
        origin="the paper says around or above; 10% below is the tolerance given with the claim",
        status="second hand",
        each=each,
        figure="settled",
        how=AFTER,
    )(_sharpness)
    near = claim(
        f"geometries.{method}-sharpness-near",
        sentence=f"{start} keeps the sharpness in its norm within 30% above 2/η",
        source=ISLAMOV,
        quantity="mean over time of S over 2/η",
        region=(0.9, 1.3),
        origin="ours: stricter than the paper's 'around or above'",
        status="ours",
        each=each,
        figure="settled",
        how=AFTER,
    )(_sharpness)
    return smooth, above, near


def _normalized(method: str, words: str) -> TestedClaim[Descent]:
    @claim(
        f"geometries.{method}-sharpness",
        sentence=f"Under {words} the sharpness over the dual norm of the gradient settles at 2/η",
        source=ISLAMOV,
        quantity="mean over time of S over 2|g|*/η",
        region=Region.around(1.0, 0.20),
        origin="the tolerance given with the claim: 20%",
        status="second hand",
        each=descents(method=method),
        figure="settled",
        how=f"{AFTER} |g|* is the dual norm of the gradient at the same point.",
    )
    def settles(run: Descent) -> Measured | Open:
        mean = run.sharpness.mean_after_arrival()
        if isinstance(mean, Open):
            return mean
        smooth = run.smoothness_mean
        beside = {"certified upper end": run.upper_mean}
        return Measured(mean, beside if isinstance(smooth, Open) else beside | {"D": smooth})

    return settles


gd_settles = claim(
    "geometries.gd-settles",
    sentence="Under gradient descent the sharpness settles at 2/η (the claim and the region of the study edge)",
    source=ISLAMOV,
    quantity="mean over time of S over 2/η",
    region=Region.around(1.0, 0.10),
    origin="ours: the region of the study edge, for other networks",
    status="ours",
    each=descents(method="gd"),
    figure="settled",
    how=f"{AFTER} Where this differs from the study edge, the networks differ: it has no transformer and no "
    "cross-entropy.",
)(_sharpness)

HOVERING = (
    *(tested for method, words in METHODS.items() for tested in _hovers(method, words)),
    gd_settles,
    _normalized("sign", "sign descent"),
    _normalized("spectral-normalized", "normalized Spectral descent"),
)
