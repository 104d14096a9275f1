"""The verdict table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from edgescope.claims import Finding, JudgedCase, Verdict
from edgescope.errors import InputError
from edgescope.report.numbers import number
from edgescope.report.words import SYMBOLS, short_count

SHOWN_CASES = 8
"""Cases of a claim that the table lists; of more it lists the first that do not hold, and says how many are left."""

_STYLES: dict[Verdict, str] = {"holds": "green", "mixed": "yellow", "fails": "red", "open": "bright_black"}


def verdict_table(findings: Sequence[Finding]) -> Table:
    """One row a finding: verdict with its count; claim, source and what was expected; cases. Reads well at 80 columns.

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
        if finding.verdict == "open" and finding.needs:
            claim.append(f"\nneeded: {finding.needs}")
        style = _STYLES[finding.verdict]
        verdict = Text(f"{SYMBOLS[finding.verdict]} {finding.verdict}", style=f"bold {style}")
        if count := short_count(finding):
            verdict.append(f"\n  {count}", style="not bold")
        table.add_row(verdict, claim, _measured(finding), end_section=place < len(findings) - 1)
    return table


def _measured(finding: Finding) -> Text:
    """The cases of a finding, a line each: sign, name, value and interval."""
    lines = []
    if finding.pooled is not None:
        lines.append("mean over cases: " + _with_interval(*finding.pooled))
    shown = list(finding.cases)
    if len(shown) > SHOWN_CASES:
        shown.sort(key=lambda case: ("fails", "open", "holds").index(case.verdict))
        shown = shown[:SHOWN_CASES]
    lines += [_line(case, finding.region is not None) for case in shown]
    if left := len(finding.cases) - len(shown):
        lines.append(f"and {left} more")
    return Text("\n".join(lines))


def _line(case: JudgedCase, judged: bool) -> str:
    value = _with_interval(case.value, case.low, case.high)
    if not judged:
        return f"{case.case}: {value}"
    reason = f" ({case.why})" if case.why and case.verdict == "open" else ""
    return f"{SYMBOLS[case.verdict]} {case.case}: {value}{reason}"


def _with_interval(value: float, low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high) or low == high:
        return number(float(value))
    return f"{number(float(value))} [{number(float(low))}, {number(float(high))}]"
