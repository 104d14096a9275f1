"""The sentences on top of a report, for any counts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgescope.claims import Count, Finding, JudgedCase, Region
from edgescope.report.summary import summary, tally
from edgescope.report.words import clause, count_of_cases, listed, short_count


def finding(claim: str, verdict: Any = "holds", why: str = "Because.", needs: str = "") -> Finding:
    return Finding(f"edge.{claim.lower()}", claim, "s", "e", verdict, why, needs=needs)


def sentences(*findings: Finding) -> list[str]:
    made = summary(findings, {number: f"claim-{number}" for number in range(len(findings))})
    return [re.sub("<[^>]*>", "", sentence) for sentence in made]


@pytest.mark.parametrize(
    ("verdicts", "first"),
    [
        ("h", "The one claim holds."),
        ("o", "The one claim is open."),
        ("hh", "Both claims hold."),
        ("fff", "All three claims fail."),
        ("hf", "Of two claims, one holds and one fails."),
        ("hhhmfoo", "Of seven claims, three hold, one is mixed, one fails and two are open."),
        ("h" * 30 + "m" * 14, "Of 44 claims, 30 hold and 14 are mixed."),
        ("h" * 12, "All 12 claims hold."),
    ],
)
def test_the_counts_in_a_sentence(verdicts: str, first: str) -> None:
    words = {"h": "holds", "m": "mixed", "f": "fails", "o": "open"}
    found = [finding(f"C{n}", words[letter]) for n, letter in enumerate(verdicts)]
    assert sentences(*found)[0] == first
    assert sum(tally(found).values()) == len(verdicts)


def test_claims_that_do_not_hold_are_named_with_their_reason() -> None:
    told = sentences(
        finding("A holds"),
        finding(
            "B varies", "mixed", "Holds on 7 of 9 cases; fails on 2 of 9 cases. It fails under loss = cross-entropy."
        ),
        finding("C errs.", "fails", "Fails on all 3 cases."),
    )
    assert told[1:] == [
        "Mixed: “B varies” (holds on 7 of 9 cases; fails on 2 of 9 cases; it fails under loss = cross-entropy).",
        "Not confirmed: “C errs” (fails on all 3 cases).",
    ]


def test_of_many_claims_some_are_named_and_the_others_counted() -> None:
    told = sentences(*[finding(f"C{n}", "fails", "") for n in range(5)])
    assert told[1] == "Not confirmed: “C0”, “C1”, “C2” and two others."


def test_open_claims_that_need_the_same_stand_together() -> None:
    told = sentences(
        finding("A", "open", needs="three more seeds"),
        finding("B", "open", needs="about 400 more steps (run 1, run 2 and 6 others)"),
        finding("C", "open", needs="Three more seeds."),
        finding("D", "open"),
        finding("E", "open"),
    )
    assert (
        told[1] == "Open: “A” and “C” (needed: three more seeds); “B” (needed: about 400 more steps); and two others."
    )
    assert sentences(finding("D", "open"))[1] == "Open: “D” (what would decide it is not known)."


def test_needs_that_differ_in_a_number_are_one() -> None:
    needs = "about 9 more readings (GD-1); about 1,020 more readings (GD-2 and 2 others); more readings (CNN); a seed"
    told = sentences(finding("A", "open", needs=needs))
    assert told[1] == "Open: “A” (needed: up to about 1,020 more readings; a seed)."


def test_named_claims_link_to_their_cards_and_are_text() -> None:
    (_, named) = summary([finding("<b>A</b>", "fails", "<i>")], {0: "claim-7"})
    assert '<a href="#claim-7">“&lt;b&gt;A&lt;/b&gt;”</a> (&lt;i&gt;)' in named


def judged(verdicts: str, scope: str = "every", why: str = "") -> Finding:
    words: dict[str, Any] = {"h": "holds", "f": "fails", "o": "open"}
    cases = tuple(JudgedCase(f"{n}", 1.0, 1.0, 1.0, words[letter]) for n, letter in enumerate(verdicts))
    pooled = (1.0, 0.9, 1.1) if scope == "average" else None
    return Finding("edge.a", "A", "s", "e", "holds", why, region=Region(0, 1), scope=scope, cases=cases, pooled=pooled)


@pytest.mark.parametrize(
    ("verdicts", "text", "short"),
    [
        ("", "", ""),
        ("h", "the only case holds", "1 of 1"),
        ("ff", "both cases fail", "0 of 2"),
        ("ooo", "all 3 cases are open", "0 of 3"),
        ("hhhhhhhff", "7 of 9 cases hold, 2 fail", "7 of 9"),
        ("hfo", "1 of 3 cases holds, 1 fails, 1 is open", "1 of 3"),
    ],
)
def test_the_count_of_cases(verdicts: str, text: str, short: str) -> None:
    assert count_of_cases(judged(verdicts)) == text
    assert short_count(judged(verdicts)) == short


def test_the_count_is_not_said_twice_nor_where_no_case_was_judged() -> None:
    assert count_of_cases(judged("hh", why="Holds on all 2 cases.")) == ""
    assert count_of_cases(judged("hh", "average")) == "mean over 2 cases"
    assert judged("hhf").count == Count(2, 1, 0)


@pytest.mark.parametrize(
    ("sentence", "inside"),
    [
        ("Fails on GD.", "fails on GD"),
        ("S is large. A run is not. D is.", "S is large; a run is not; D is"),
        ("GD fails", "GD fails"),
        ("", ""),
    ],
)
def test_sentences_inside_another(sentence: str, inside: str) -> None:
    assert clause(sentence) == inside


def test_lists() -> None:
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
