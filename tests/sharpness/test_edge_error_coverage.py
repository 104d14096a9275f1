"""Errors of headroom and batch sharpness cover the truth."""

from __future__ import annotations

import pytest
from edge_trials import EDGE
from error_trials import coverage

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

COUNTS = [16, pytest.param(100, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", [name for name in EDGE if not name.startswith("weighted")])
def test_errors_cover_the_truth(name: str, count: int) -> None:
    found = coverage(EDGE[name], count)
    assert found.trials >= count / 2
    assert not found.short()


@pytest.mark.parametrize("count", COUNTS)
def test_errors_of_the_weighted_batch_sharpness_are_nearly_large_enough(count: int) -> None:
    """They are somewhat too small where few mini-batches have much the longest gradients: 91% inside two of 100."""
    found = coverage(EDGE["weighted batch sharpness, 30 mini-batches"], count)
    assert found.trials == count
    assert found.share(2) >= 0.85
