"""The verdict table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from edgescope.errors import InputError
from edgescope.report.finding import Finding
from edgescope.report.numbers import number

SYMBOLS = {"holds": "✓", "fails": "✗", "inconclusive": "?"}
_STYLES = {"holds": "green", "fails": "red", "inconclusive": "yellow"}


def verdict_table(findings: Sequence[Finding]) -> Table:
    """One row a finding: verdict; claim, source and what was expected; measured figures. Reads well at 80 columns.

    Raises :class:`InputError` where there is no finding.
    """
    if not findings:
        raise InputError("a table of no findings", expected="at least one finding")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim and expectation", min_width=28)
    table.add_column("measured", min_width=24, max_width=44)
    for place, finding in enumerate(findings):
        claim = Text.assemble(
            (finding.claim, "bold"), (f"\n{finding.source}", "dim"), f"\nexpected: {finding.expected}"
        )
        measured = "\n".join(f"{name}: {number(value)}" for name, value in finding.measured.items())
        verdict = Text(f"{SYMBOLS[finding.verdict]} {finding.verdict}", style=f"bold {_STYLES[finding.verdict]}")
        table.add_row(verdict, claim, Text(measured), end_section=place < len(findings) - 1)
    return table
