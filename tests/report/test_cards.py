"""Cards of claims: their places, forest plots and tables."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgescope.claims import Finding, JudgedCase, Region, Row
from edgescope.report.cards import CaseTable, anchors, estimate_text, make_cards

NAN = math.nan


def finding(*cases: JudgedCase, id: str = "edge.a", **more: Any) -> Finding:
    return Finding(id, "It settles", "s", "e", "holds", "y", **{"region": Region(0.9, 1.1), "cases": cases} | more)


def test_places_come_from_ids_and_no_two_are_alike() -> None:
    found = [finding(id=id) for id in ("edge.gd-settles", "", "edge.gd-settles", "a b/<ü>", "a b/<ü>")]
    places = anchors(found)
    assert places == ["claim-edge.gd-settles", "claim-2", "claim-edge.gd-settles-3", "claim-a-b", "claim-a-b-5"]


def test_the_table_has_the_factors_that_differ_and_every_quantity_given_beside() -> None:
    table = CaseTable.of(
        finding(
            JudgedCase("a", 1, 0.9, 1.1, "holds", "", "", {"loss": "x", "seed": "0"}, (Row("steps", 12345),)),
            JudgedCase(
                "b", 2, NAN, NAN, "open", "", "", {"loss": "x", "seed": "1"}, (Row("top", 0.5, 0.4, 0.6, "1/η"),)
            ),
        )
    )
    assert table.factors == ["seed"]
    assert table.beside == ["steps", "top (1/η)"]
    assert [texts for _, texts in table.rows] == [["12\u202f345", ""], ["", "0.5 (0.4 to 0.6)"]]
    assert table.intervals
    assert table.judged
    assert not table.reasons


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((1.0234, 0.98, 1.06), "1.023 (0.98 to 1.06)"),
        ((1.0, NAN, NAN), "1"),
        ((NAN, NAN, NAN), "–"),
        ((math.inf, 3.0, math.inf), "∞ (3 to ∞)"),
    ],
)
def test_a_number_with_its_interval(estimate: tuple[float, float, float], text: str) -> None:
    assert estimate_text(*estimate) == text


def test_a_row_of_the_still_forest_plot_has_its_figures_as_a_title() -> None:
    (card,) = make_cards([finding(JudgedCase("GD & <b>", 1.02, 0.98, 1.06, "holds"))], {})
    assert card.forest is not None
    told = "case: GD &amp; &lt;b&gt;; value: 1.02; 95% interval: 0.98 to 1.06; verdict: holds"
    assert f"<title>{told}</title>" in card.forest.still


def test_a_claim_without_cases_or_without_a_region_has_no_forest_plot() -> None:
    case = JudgedCase("a", 1.0, NAN, NAN, "open")
    without = make_cards([finding(), finding(case, region=None)], {})
    assert [card.forest for card in without] == [None, None]
    assert [card.table is None for card in without] == [True, False]
    assert without[1].table is not None
    assert not without[1].table.judged


def test_what_is_not_drawn_is_said() -> None:
    many = [JudgedCase(f"{n}", 1.0, NAN, NAN, "open") for n in range(60)]
    (card,) = make_cards([finding(*many)], {})
    assert card.note.startswith("40 of 60 cases are shown")
    (card,) = make_cards([finding(*many[:40])], {})
    assert card.note == ""
