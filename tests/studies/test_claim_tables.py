"""The pages of the documentation list the claims that the code tests, with their regions and where these come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgescope.studies import STUDIES
from edgescope.studies.claim_table import with_table

PAGES = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", STUDIES.names())
def test_the_page_of_a_study_lists_its_claims_as_the_code_has_them(name: str) -> None:
    study = STUDIES.build(name)
    (page,) = [text for path in PAGES.glob("*.md") if f"<!-- claims of {name} -->" in (text := path.read_text("utf-8"))]
    assert with_table(page, study) == page, "tools/write_claim_tables.py writes the tables anew"


@pytest.mark.parametrize("name", STUDIES.names())
def test_every_claim_has_an_id_of_its_own_that_begins_with_its_study(name: str) -> None:
    ids = [tested.claim.id for topic in STUDIES.build(name).topics for tested in topic.claims]
    assert len(set(ids)) == len(ids) > 0
    assert {id.partition(".")[0] for id in ids} == {name}
