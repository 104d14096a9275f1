"""The sharpness dimension: what the whole spectrum of the update says of generalization, and what else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgescope.data import DATA
from edgescope.experiments.dimension.runs import UNKNOWN, dimension_tasks, with_options
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.options import check_fields, text
from edgescope.studies.dimension.claims import GRID_TOPICS
from edgescope.studies.dimension.estimates import ESTIMATE_TOPICS
from edgescope.studies.sources import TUCI
from edgescope.studies.study import Preset, Study
from edgescope.studies.tested_claim import Topic
from edgescope.sweep import Task


@dataclass(frozen=True)
class Dimension(Study):
    """Sharpness dimension and other predictors of the generalization gap, over learning rates and batch sizes.

    ``images`` and ``text`` are the data: another image set ("dimension:images=mnist:FOLDER"), another text file
    ("dimension:text=text:FILE").
    """

    images: str = "fashion-5k"
    text: str = "licence"

    name: ClassVar[str] = "dimension"
    title: ClassVar[str] = "The dimension of the optimizer's attractor and the generalization gap"
    abstract: ClassVar[str] = (
        "Networks trained by mini-batch gradient descent with cross-entropy over a grid of learning rates and batch "
        "sizes, those of one batch size together. At the end of each run the sharpness dimension is found from whole "
        "spectra of mini-batch Hessians in float64, exactly and by three quadrature estimators, and beside it what "
        "competes with it. Rank correlations with the accuracy gap and the loss gap decide; learning rate and batch "
        "size are then taken out. The paper's networks see 28 x 28 digits of MNIST, these here pooled and fewer "
        "images, of Fashion-MNIST unless told otherwise; its grid values are not published."
    )
    paper: ClassVar[str] = TUCI
    topics: ClassVar[Sequence[Topic]] = (*GRID_TOPICS, *ESTIMATE_TOPICS)
    unknown: ClassVar[tuple[str, ...]] = UNKNOWN

    def __post_init__(self) -> None:
        check_fields(self, "study 'dimension'", images=text(empty=False), text=text(empty=False))
        DATA.build(with_options(self.images, "train=1,test=1,pool=1"))
        DATA.build(with_options(self.text, "length=1"))

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return dimension_tasks(preset, seed, self.images, self.text)

    def figures(self, runs: Runs) -> list[Figure]:
        from edgescope.studies.dimension.figures import dimension_figures  # only here: charts take long to load

        return dimension_figures(runs)
