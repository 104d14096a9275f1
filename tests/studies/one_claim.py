"""The verdict on a single claim of a study, without those on all others."""

from __future__ import annotations

from edgescope.claims import Finding
from edgescope.experiments.study_run import Runs
from edgescope.studies import Study


def finding_of(study: type[Study], runs: Runs, id: str) -> Finding:
    """The verdict on the claim ``id``, which is written without the name of the study."""
    claims = [tested for topic in study.topics for tested in topic.claims]
    (tested,) = [tested for tested in claims if tested.claim.id == f"{study.name}.{id}"]
    return tested.finding(runs)
