"""How far an adaptive optimizer's second moments lag behind the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.blocks import By, blocks_of
from edgescope.measures.last_step import StepPart
from edgescope.measures.reading import Reading
from edgescope.optim.rule import UpdateRule
from edgescope.options import check_fields

MOMENTS: Final = ("exp_avg_sq", "square_avg")
"""Under which names optimizers keep the running means of squared gradients: Adam and its kind, RMSprop."""


@dataclass
class PreconditionerLag(Measure):
    """sum g²/sqrt(v) / sum sqrt(v), for training's gradient g of the last step and the second moments v after it.

    Near 1 where v is the square of the present gradient, as with a short memory. Far below 1 where gradients have
    become smaller than what v remembers, so that steps are short, and the preconditioned curvature small, for a reason
    that will pass; above 1 where they have just grown. v is bias-corrected. Entries that never had a gradient are left
    out. ``by`` "tensors" or "layers": also one for each block. In mini-batches g is noise for the most part, and so is
    v: the lag is then near 1.

    For Adam, AdamW, RMSprop and optimizers that keep second moments under the same names; with amsgrad and centering,
    of the plain second moments. Cost: a copy of training's gradient.
    """

    by: By = "none"

    name: ClassVar[str] = "preconditioner_lag"
    title: ClassVar[str] = "Squared gradient over second moments"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "after arXiv 2506.04805"
    needs: ClassVar[Needs] = "nothing"
    needs_run: ClassVar[str] = "it needs the gradient of an optimizer step"
    needs_rule: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'")

    def of_the_step(self) -> frozenset[StepPart]:
        return frozenset[StepPart]({"parameters", "training"})

    def read(self, moment: Moment) -> Reading:
        rule = moment.known_rule()
        gradient = None if moment.last is None else moment.last.gradient()
        if gradient is None or moment.last is None or moment.last.start is None:
            raise NotKnownError("no step was seen, or its gradient was not")
        root = _roots(rule)
        g = gradient.double().to(root) + _decay(rule, moment.last.start).to(root)
        known = root > 0
        part = torch.where(known, g.square() / torch.where(known, root, 1.0), 0.0)
        values = {}
        blocks = {"": [slice(None)], **blocks_of(moment.objective.layout, self.by)}
        for name, places in blocks.items():
            below = sum(float(root[place].sum()) for place in places)
            if below > 0:
                values[name] = sum(float(part[place].sum()) for place in places) / below
        if "" not in values:
            raise NotKnownError("all second moments are zero")
        return Reading(self.name, values)


def _roots(rule: UpdateRule) -> Float[Tensor, " P"]:
    """The roots of the bias-corrected second moments, 0 where there are none."""
    state, kept = rule.state(), rule.layout()
    names = [name for name in MOMENTS if name in state]
    if not names:
        raise NotKnownError(f"{rule.name} keeps no second moments")
    pieces = [torch.zeros(tensor.numel(), dtype=torch.float64, device=tensor.device) for tensor in rule.tensors]
    steps = state["step"].tolist()
    for name in names:
        for i, moments in enumerate(rule.split(state[name])):
            if not kept[name][i] or not steps[i]:
                continue
            beta = float(rule.groups()[i]["betas"][1]) if name == "exp_avg_sq" else 0.0
            pieces[i] = (moments.double().flatten() / (1 - beta ** steps[i])).clamp(min=0).sqrt()
    return torch.cat(pieces)


def _decay(rule: UpdateRule, w: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """What a coupled weight decay adds to the gradient, which enters the second moments too."""
    decays = [rule.coupled_decay(group) if held else 0.0 for group, held in zip(rule.groups(), rule.held, strict=True)]
    return torch.cat([decay * piece.double().flatten() for decay, piece in zip(decays, rule.split(w), strict=True)])
