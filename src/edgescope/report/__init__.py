"""Reports: findings, the self-contained page with its pictures, and the verdict table for the terminal."""

from __future__ import annotations

from edgescope.claims import read_findings
from edgescope.extras import require

require("figures", "reports need", "altair", "jinja2", "polars", "rich", "vl_convert")

from edgescope.report.page import write_report
from edgescope.report.run_report.plot import RunPlot, plot_runs
from edgescope.report.terminal import verdict_table

__all__ = ["RunPlot", "plot_runs", "read_findings", "verdict_table", "write_report"]
