"""The ids of warnings, which are anchors of the page docs/faq.md."""

from __future__ import annotations

from typing import Final

FAQ: Final = {
    "running-statistics": "mode",
    "training-mode": "mode",
    "evaluation-mode": "mode",
    "dropout": "dropout",
    "thawed-layers": "mode",
    "batch-weights": "weights",
    "summed-losses": "weights",
    "coupled-samples": "weights",
    "several-processes": "processes",
    "parameters-of-others": "optimizer",
    "parameters-that-do-not-train": "optimizer",
    "other-optimizers": "optimizer",
    "no-steps": "optimizer",
    "unknown-optimizer": "optimizer",
    "no-threshold": "threshold",
    "changed-parameters": "model",
    "parameters-that-do-not-move": "model",
    "clipped-gradients": "update",
    "scaled-gradients": "update",
    "other-gradients": "gradients",
    "other-steps": "update",
    "rounded-steps": "update",
    "failed-measures": "measure",
    "learning-coefficients": "measure",
    "budget": "budget",
    "not-finite": "not-finite",
    "kinks": "measure",
    "saturated-networks": "saturated",
    "dead-units": "dead-units",
    "damaged-files": "record",
    "callbacks": "callback",
}
"""The ids of warnings, with their kinds.

Warnings of the last two kinds are no notices of a run: they are given where a file is read, and by callbacks.
"""


def see(faq: str) -> str:
    """What a warning ends with: the anchor of docs/faq.md that explains it."""
    return f"(see faq#{faq})"
