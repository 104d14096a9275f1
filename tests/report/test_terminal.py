"""The verdict table in a terminal of 80 columns."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from edgescope.claims import Finding, JudgedCase, Region
from edgescope.errors import InputError
from edgescope.report import verdict_table


def finding(claim: str, source: str, expected: str, name: str, value: float, verdict: Any) -> Finding:
    case = JudgedCase(name, value, value, value, "open")
    return Finding("edge.some", claim, source, expected, verdict, "y", cases=(case,))


FINDINGS = [
    finding("Sharpness rises [bold]before[/bold] the threshold", "Cohen (2021)", "a rise", "rise", 2.5, "holds"),
    finding(
        "It settles", "Cohen (2021)", "1 ± 0.1", "a [red]name[/red] as long as they come in studies", 1.25, "fails"
    ),
    finding("Adam settles", "Cohen (2022)", "1 ± 0.1", "ratio", math.nan, "open"),
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


def judged(verdict: Any, verdicts: str, **more: Any) -> str:
    words: dict[str, Any] = {"h": "holds", "f": "fails", "o": "open"}
    cases = tuple(
        JudgedCase(f"run {n}", 1.25, 1.0, 1.5, words[letter], "too short" if letter == "o" else "")
        for n, letter in enumerate(verdicts)
    )
    found = Finding("edge.a", "It settles", "s", "e", verdict, "y", region=Region(0, 1), cases=cases, **more)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(verdict_table([found]))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


def test_the_four_verdicts_have_their_count_and_cases_their_intervals() -> None:
    text = judged("mixed", "hhfo")
    assert "± mixed" in text
    assert "2 of 4" in text
    assert "✓ run 0: 1.25 [1, 1.5]" in text
    assert "✗ run 2: 1.25 [1, 1.5]" in text
    assert "? run 3: 1.25 [1, 1.5] (too" in text


def test_an_open_claim_says_what_would_settle_it() -> None:
    assert "needed: three more seeds" in judged("open", "oo", needs="three more seeds")
    assert "three more seeds" not in judged("holds", "hh", needs="three more seeds")


def test_of_many_cases_those_that_do_not_hold_are_listed() -> None:
    text = judged("mixed", "h" * 12 + "fo")
    assert "✗ run 12" in text
    assert "? run 13" in text
    assert "and 6 more" in text


def test_a_claim_about_the_average_has_its_mean() -> None:
    assert "mean over cases: 1.2 [1.1, 1.3]" in judged("holds", "oo", scope="average", pooled=(1.2, 1.1, 1.3))
