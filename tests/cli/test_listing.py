"""``edgescope list``."""

from __future__ import annotations

from pathlib import Path

import pytest
from said import Run

from edgescope.data import DATA
from edgescope.losses import LOSSES
from edgescope.measures import MEASURES
from edgescope.models import MODELS
from edgescope.optim import OPTIMIZERS
from edgescope.studies import STUDIES


def test_everything_that_has_a_name_is_listed(run: Run) -> None:
    said = run("list")
    assert said.code == 0
    words = said.out.split()
    for registry in (DATA, LOSSES, MEASURES, MODELS, OPTIMIZERS, STUDIES):
        assert set(registry.names()) <= set(words)


def test_options_are_shown_as_they_are_typed(run: Run) -> None:
    text = " ".join(run("list", "models").out.split())
    assert "mlp Fully connected layers" in text
    assert "widths=200x200 (integers joined by x)" in text
    assert "bias=true (true|false)" in text
    assert "cross-entropy" not in text
    typed = MODELS.build("mlp:widths=200x200,bias=true")
    assert typed == MODELS.build("mlp")
    data = " ".join(run("list", "data").out.split())
    assert "train=none (integer or none)" in data


@pytest.mark.parametrize(
    "kind", ["studies", "data", "models", "optimizers", "schedules", "geometries", "losses", "measures"]
)
def test_one_kind_alone(run: Run, kind: str) -> None:
    said = run("list", kind)
    assert said.out.startswith(f"{kind}\n")
    assert "(default" not in said.out


def test_an_unknown_kind_is_refused(run: Run) -> None:
    said = run("list", "modls")
    assert said.code == 2
    assert "models" in said.err


def test_things_of_the_user_are_listed_too(run: Run, users_study: str, here: Path) -> None:
    assert "users-linear" not in run("list", "models").out
    text = run("list", "models", "--module", users_study).out
    assert "users-linear A linear model of the user's." in " ".join(text.split())
