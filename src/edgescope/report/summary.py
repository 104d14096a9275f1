"""The paragraph on top of a report: what was found, what was not, what is open and what would decide it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from edgescope.claims import Finding, Verdict
from edgescope.printable import printable
from edgescope.report.words import SYMBOLS, clause, in_words, listed, verb

NAMED = 3
"""Claims of one verdict that the paragraph names; of more it gives the number."""


def tally(findings: Sequence[Finding]) -> dict[Verdict, int]:
    """How many claims have each verdict, without those that none has."""
    return {verdict: count for verdict in SYMBOLS if (count := sum(f.verdict == verdict for f in findings))}


def summary(findings: Sequence[Finding], places: Mapping[int, str]) -> list[Markup]:
    """The findings in a few sentences; ``places`` has the anchor of each claim on the page, by its number.

    Claims that are mixed, fail or are open are named, with the reason or with what would decide them.
    """
    numbered = list(enumerate(findings))
    of: dict[Verdict, list[tuple[int, Finding]]] = {v: [p for p in numbered if p[1].verdict == v] for v in SYMBOLS}
    sentences = [escape(_first(tally(findings)))]
    for verdict in ("mixed", "fails"):
        if of[verdict]:
            sentences.append(_named(verdict, of[verdict], places, len(findings)))
    if of["open"]:
        sentences.append(_open(of["open"], places, len(findings)))
    return sentences


def _first(counts: Mapping[Verdict, int]) -> str:
    total = sum(counts.values())
    if len(counts) == 1:
        verdict = next(iter(counts))
        who = {1: "The one claim", 2: "Both claims"}.get(total, f"All {in_words(total)} claims")
        return f"{who} {verb(verdict, total)}."
    parts = [f"{in_words(count)} {verb(verdict, count)}" for verdict, count in counts.items()]
    return f"Of {in_words(total)} claims, {listed(parts)}."


def _named(verdict: Verdict, those: Sequence[tuple[int, Finding]], places: Mapping[int, str], total: int) -> Markup:
    """ "Mixed: “It settles” (holds on 7 of 9 cases)." """
    told = [_quoted(number, f, places) + _bracket(clause(f.why)) for number, f in those[:NAMED]]
    return _opening(verdict, len(those), total) + listed(told + _others(len(those) - NAMED)) + Markup(".")


def _open(those: Sequence[tuple[int, Finding]], places: Mapping[int, str], total: int) -> Markup:
    """Open claims with what would decide them, those that need the same together."""
    groups: dict[str, list[tuple[int, Finding]]] = {}
    for number, finding in those:
        groups.setdefault(_in_short(clause(finding.needs)), []).append((number, finding))
    told: list[Markup] = []
    left = NAMED
    for need, members in groups.items():
        if left > 0:
            named = [_quoted(number, f, places) for number, f in members[:left]]
            named += _others(len(members) - left)
            told.append(listed(named) + _bracket(f"needed: {need}" if need else "what would decide it is not known"))
            left -= len(members)
    shown = sum(len(members) for members in list(groups.values())[: len(told)])
    text = _opening("open", len(those), total) + Markup("; ").join(told)
    return text + (Markup("; and ") + _others(len(those) - shown)[0] if len(those) > shown else "") + Markup(".")


def _opening(verdict: Verdict, count: int, total: int) -> Markup:
    word = {"mixed": "Mixed", "fails": "Not confirmed", "open": "Open"}[verdict]
    return Markup("<b>{}:</b> ").format(word) if total > 0 and count else Markup("")


def _quoted(number: int, finding: Finding, places: Mapping[int, str]) -> Markup:
    text = printable(finding.claim.strip().rstrip("."))
    return Markup('<a href="#{}">“{}”</a>').format(places[number], text)


def _in_short(needs: str) -> str:
    """What is needed, without the cases that need it, which the card lists: of needs that differ in a number alone,
    the largest."""
    pieces = dict.fromkeys(re.sub(r"\s*\([^()]*\)", "", needs).split("; "))
    groups: dict[str, list[str]] = {}
    for piece in pieces:
        if not any(other != piece and other.endswith(piece) for other in pieces):
            groups.setdefault(re.sub(r"\d[\d,]*", "#", piece), []).append(piece)
    return "; ".join(g[0] if len(g) == 1 else f"up to {max(g, key=_first_number)}" for g in groups.values())


def _first_number(text: str) -> int:
    found = re.search(r"\d[\d,]*", text)
    return int(found[0].replace(",", "")) if found else 0


def _bracket(text: str) -> Markup:
    return Markup(" ({})").format(printable(text)) if text else Markup("")


def _others(count: int) -> list[Markup]:
    if count <= 0:
        return []
    return [Markup("{} {}").format(in_words(count), "other" if count == 1 else "others")]
