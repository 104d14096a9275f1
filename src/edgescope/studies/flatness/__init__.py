"""Flatness: whether flattest networks generalize, whether minimizers of sharpness do, and whether one is the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.figures import Figure
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.flatness.claims import flatness_findings
from edgescope.studies.flatness.pictures import flatness_figures
from edgescope.studies.flatness.runs import flatness_tasks
from edgescope.studies.flatness.seen import WEN
from edgescope.studies.study import Preset, Study
from edgescope.sweep import Task


@dataclass(frozen=True)
class Flatness(Study):
    """Three scenarios on xor, and the general question for a network of the user's own.

    ``data``, ``model``, ``loss`` and ``lr`` are those of that network, named as everywhere, with ``;`` in the place of
    ``,``: ``flatness:data=digits,model=mlp:widths=64x64;activation=relu,lr=0.05``.
    """

    name: ClassVar[str] = "flatness"
    title: ClassVar[str] = "Does flatness explain generalization?"
    abstract: ClassVar[str] = (
        "Shallow relu networks of four architectures learn the product of two signs among thirty from 100 samples, by "
        "single-sample SAM, label-noise SGD, full-batch SAM and descent with weight decay; sharpness is the trace of "
        "the Hessian, beside the least that any interpolating network can have. Steps on single samples are compiled "
        "and equal to the optimizers in float64. Networks with batch norm and with three layers are narrower than the "
        "paper's 500, and most runs shorter than its 1e5 epochs. Then SAM on a network of the user's choice: does it "
        "flatten it, and did the test error follow?"
    )
    paper: ClassVar[str] = f"{WEN}; Foret et al. 2021 (arXiv 2010.01412); Dinh et al. 2017 (arXiv 1703.04933)"

    data: str = "fashion-5k:train=1000;test=1000;pool=2"
    model: str = "mlp:widths=64;activation=relu"
    loss: str = "cross-entropy"
    lr: float = 0.1

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        data, model, loss = (text.replace(";", ",") for text in (self.data, self.model, self.loss))
        return flatness_tasks(preset, seed, data, model, loss, self.lr)

    def findings(self, runs: dict[str, Record]) -> list[Finding]:
        return flatness_findings(runs)

    def figures(self, runs: dict[str, Record]) -> list[Figure]:
        return flatness_figures(runs)
