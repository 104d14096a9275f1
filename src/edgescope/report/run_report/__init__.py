"""The report of training runs: what they recorded, as figures and tables, without verdicts."""

from __future__ import annotations

from edgescope.report.run_report.figures import MOST_RUNS, run_figures
from edgescope.report.run_report.pages import report_record, report_runs
from edgescope.report.run_report.plot import RunPlot, plot_run, plot_runs

__all__ = ["MOST_RUNS", "RunPlot", "plot_run", "plot_runs", "report_record", "report_runs", "run_figures"]
