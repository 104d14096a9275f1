"""Claims, the cases that they are judged on, and what was found; knows nothing of runs or of networks."""

from edgescope.claims.answer import Answer, Measured, Open
from edgescope.claims.claim import Case, Claim, Row, Scope, Status
from edgescope.claims.finding import Count, Finding, JudgedCase, Verdict, dumps, read_findings
from edgescope.claims.judge import judge
from edgescope.claims.region import CaseVerdict, Region

__all__ = [
    "Answer",
    "Case",
    "CaseVerdict",
    "Claim",
    "Count",
    "Finding",
    "JudgedCase",
    "Measured",
    "Open",
    "Region",
    "Row",
    "Scope",
    "Status",
    "Verdict",
    "dumps",
    "judge",
    "read_findings",
]
