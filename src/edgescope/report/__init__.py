"""Reports: findings, the self-contained page with its pictures, and the verdict table for the terminal."""

from __future__ import annotations

from edgescope.report.finding import Finding, Verdict, judge, read_findings
from edgescope.report.page import write_report
from edgescope.report.terminal import verdict_table

__all__ = ["Finding", "Verdict", "judge", "read_findings", "verdict_table", "write_report"]
