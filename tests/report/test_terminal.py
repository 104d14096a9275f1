"""The verdict table in a terminal of 80 columns."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from edgescope.errors import InputError
from edgescope.report import Finding, verdict_table

FINDINGS = [
    Finding("Sharpness rises [bold]before[/bold] the threshold", "Cohen (2021)", "a rise", {"rise": 2.5}, "holds", "y"),
    Finding(
        "It settles",
        "Cohen (2021)",
        "1 ± 0.1",
        {"a [red]name[/red] as long as they come in studies": 1.25},
        "fails",
        "y",
    ),
    Finding("Adam settles", "Cohen (2022)", "1 ± 0.1", {"ratio": math.nan}, "inconclusive", "y"),
]


def shown(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(verdict_table(FINDINGS))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 140])
def test_every_word_is_there_and_no_line_is_too_long(width: int) -> None:
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    for finding in FINDINGS:
        for expected in [finding.verdict, *finding.claim.split(), *finding.source.split(), *finding.expected.split()]:
            assert expected in words
    assert {"✓", "✗", "?", "2.5", "1.25", "not", "measured"} <= set(words)


def test_markup_in_a_claim_is_text() -> None:
    assert "[bold]before[/bold]" in shown(140)
    assert "[red]name[/red]" in shown(140)


def test_no_findings_are_an_error() -> None:
    with pytest.raises(InputError, match="no findings"):
        verdict_table([])
