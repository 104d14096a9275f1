"""Studies by name: one file a paper, with its runs, its claims and its figures."""

from __future__ import annotations

from edgescope.extras import require

require("studies", "studies need", "joblib", "numba", "polars")

from edgescope.experiments.study_file import describe
from edgescope.registry import Registry
from edgescope.studies.central import Central
from edgescope.studies.dimension import Dimension
from edgescope.studies.edge import Edge
from edgescope.studies.flatness import Flatness
from edgescope.studies.geometries import Geometries
from edgescope.studies.grokking import GrokkingStudy
from edgescope.studies.phases import Phases
from edgescope.studies.runner import StudyResult, report_study, run_study
from edgescope.studies.study import Study
from edgescope.studies.tradeoff import Tradeoff

STUDIES: Registry[Study] = Registry("study")
STUDIES.add(Edge.name, Edge)
STUDIES.add(Geometries.name, Geometries)
STUDIES.add(Dimension.name, Dimension)
STUDIES.add(GrokkingStudy.name, GrokkingStudy)
STUDIES.add(Phases.name, Phases)
STUDIES.add(Tradeoff.name, Tradeoff)
STUDIES.add(Flatness.name, Flatness)
STUDIES.add(Central.name, Central)

__all__ = ["STUDIES", "Study", "StudyResult", "describe", "report_study", "run_study"]
