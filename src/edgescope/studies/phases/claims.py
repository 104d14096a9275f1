"""All claims of the study `phases`, in the order of the report, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping

from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.phases.claims_of_addition import addition_findings
from edgescope.studies.phases.claims_of_curves import curve_findings
from edgescope.studies.phases.claims_of_escape import escape_findings
from edgescope.studies.phases.claims_of_networks import network_findings
from edgescope.studies.phases.claims_of_states import state_findings
from edgescope.studies.phases.claims_of_theory import theory_findings
from edgescope.studies.phases.source import ERSOY

__all__ = ["ERSOY", "phase_findings"]


def phase_findings(runs: Mapping[str, Record]) -> list[Finding]:
    """A verdict on every claim of the study."""
    judged = (escape_findings, curve_findings, network_findings, addition_findings)
    return [*state_findings(runs), *theory_findings(), *(finding for of in judged for finding in of(runs))]
