"""Claims as text: what a table may say, and that every table of a study's file is one of its claims."""

from __future__ import annotations

import math

import pytest

from edgescope.claims import Claim, Region
from edgescope.errors import InputError
from edgescope.experiments.selection import tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.studies import STUDIES
from edgescope.studies.stated_claim import claims_of, read_claims, stated_claim

FIRST = """
[first]
sentence = "It is so"
source = "here"
quantity = "x"
region = [-inf, 2]
origin = "ours"
unit = "steps"
names_cases = true
how = \"\"\"\\
  In two \\
  lines.\"\"\"
"""


def changed(old: str, new: str) -> str:
    assert old in FIRST
    return FIRST.replace(old, new)


def test_a_table_states_a_claim() -> None:
    expected = Claim(
        "s.first",
        sentence="It is so",
        source="here",
        quantity="x",
        region=Region(-math.inf, 2),
        origin="ours",
        unit="steps",
        names_cases=True,
        how="In two lines.",
    )
    assert claims_of("s", FIRST) == {"first": expected}


def test_what_a_claim_does_not_say_is_as_in_the_one_that_it_is_like() -> None:
    more = '[second]\nlike = "first"\nregion = [2, inf]\nunit = ""\n[third]\nlike = "second"\nstatus = "ours"'
    first, second, third = claims_of("s", FIRST + more).values()
    assert (second.id, second.region, second.unit) == ("s.second", Region(2, math.inf), "")
    assert (second.sentence, second.how, second.names_cases) == (first.sentence, first.how, True)
    assert (third.id, third.region, third.unit, third.status) == ("s.third", second.region, "", "ours")
    assert first.status == second.status == "from the paper"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FIRST + '[second]\nlike = "frist"', "claim 's.second' is like 'frist'.*a claim above it.*first"),
        ('[zeroth]\nlike = "first"\n' + FIRST, "claim 's.zeroth' is like 'first'"),
        (FIRST + '[second]\nlike = "second"', "claim 's.second' is like 'second'"),
        (changed("origin", "orign"), "claim 's.first' has the key 'orign'.*one of .*how.*origin"),
        (changed('origin = "ours"', ""), "claim 's.first' has no origin"),
        (FIRST + '[second]\nsentence = "more"', "claim 's.second' has no source"),
        (FIRST + 'id = "s.other"', "claim 's.first' has the key 'id'"),
        (changed("[-inf, 2]", "2"), "claim 's.first' has the region 2"),
        (changed("[-inf, 2]", "[2]"), r"the region \[2\].*two numbers"),
        (changed("[-inf, 2]", "[0, 1, 2]"), r"the region \[0, 1, 2\]"),
        (changed("[-inf, 2]", '["0", 1]'), r"the region \['0', 1\]"),
        (changed("[-inf, 2]", "[false, true]"), r"the region \[False, True\]"),
        (changed("[-inf, 2]", "[3, 2]"), "low at most high"),
        (changed("[-inf, 2]", "[-inf, inf]"), "at least one of them finite"),
        (FIRST + 'scope = "all"', "claim 's.first' has the scope 'all'"),
        (FIRST + 'status = "known"', "claim 's.first' has the status 'known'"),
    ],
)
def test_what_a_table_must_not_say(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        claims_of("s", text)


def test_a_function_is_decorated_with_the_claim_of_its_name() -> None:
    @stated_claim("dimension.attractor", each=tagged(role="attractor"))
    def attractor(run: StudyRun) -> Estimate:
        return Estimate.exact(1.0)

    assert attractor.claim == read_claims("dimension")["attractor"]
    assert attractor.claim.id == "dimension.attractor"


def test_an_unknown_name_is_answered_with_the_one_that_it_resembles() -> None:
    with pytest.raises(InputError, match=r"'dimension' states no claim 'atractor'.*attractor"):
        stated_claim("dimension.atractor", each=tagged(role="attractor"))


@pytest.mark.parametrize("name", STUDIES.names())
def test_every_table_is_one_claim_of_its_study_in_the_order_of_its_topics(name: str) -> None:
    tested = [tested.claim for topic in STUDIES.build(name).topics for tested in topic.claims]
    assert tested == list(read_claims(name).values())
