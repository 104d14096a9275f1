"""Studies by name: one file a paper, with its runs, its claims and its figures."""

from __future__ import annotations

from edgescope.registry import Registry
from edgescope.studies.edge import Edge
from edgescope.studies.geometries import Geometries
from edgescope.studies.study import Study, StudyResult, describe, report_study, run_study

STUDIES: Registry[Study] = Registry("study")
STUDIES.add(Edge.name, Edge)
STUDIES.add(Geometries.name, Geometries)

__all__ = ["STUDIES", "Study", "StudyResult", "describe", "report_study", "run_study"]
