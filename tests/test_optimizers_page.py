"""The table of thresholds in docs/optimizers.md is what the rules say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from edgescope.errors import NotKnownError
from edgescope.optim import rule_for
from edgescope.optim.known import BY_NAME, RULES, WHY_NONE

PAGE = (Path(__file__).parent.parent / "docs" / "optimizers.md").read_text(encoding="utf-8")
TABLE = re.search(r"<!-- thresholds -->\n(.*?)<!-- end of thresholds -->", PAGE, re.DOTALL)
assert TABLE is not None
ROWS = re.findall(r"^\| `(\w+)\((.*?)\)` \| .*? \| (.*?) \| ([\d.]+) \|$", TABLE.group(1), re.MULTILINE)


@pytest.mark.parametrize(("name", "options", "formula", "value"), ROWS)
def test_a_row_is_what_the_rule_says(name: str, options: str, formula: str, value: str) -> None:
    p = torch.ones(2, 2, requires_grad=True)
    made = eval(f"dict({options})")
    threshold = rule_for(getattr(torch.optim, name)([p], lr=0.1, **made), [p]).threshold()
    assert threshold.formula == formula
    assert f"{threshold.value:.5g}" == value


def test_all_optimizers_of_torch_are_on_the_page() -> None:
    """In the table, or named as one without a threshold."""
    kinds = {kind.__name__ for kind in vars(torch.optim).values() if isinstance(kind, type)} - {"Optimizer"}
    shown = {name for name, *_ in ROWS}
    assert len(ROWS) == TABLE.group(1).count("\n| `")
    assert kinds - shown == {"Rprop", "LBFGS", "SparseAdam"}
    p = torch.ones(2, 2, requires_grad=True)
    for name in kinds - shown:
        assert f"`{name}`" in PAGE
        with pytest.raises(NotKnownError, match="headroom"):
            rule_for(getattr(torch.optim, name)([p]), [p]).threshold()


def test_all_optimizers_that_are_known_by_name_are_on_the_page() -> None:
    for name in BY_NAME:
        package, _, kind = name.rpartition(".")
        assert (
            f"`{name}`" in PAGE or f"`{kind}`" in PAGE or (package in ("bitsandbytes", "torchao") and package in PAGE)
        )
    known = {kind.__module__.split(".")[0] for kind in RULES}
    assert known == {"torch", "edgescope"}
    assert not {kind.__name__ for kind in RULES} & set(WHY_NONE)
