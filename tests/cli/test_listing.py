"""``edgescope list``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from said import Run

from edgescope.cli.listing import FILE, Choice, choices_of
from edgescope.data import DATA
from edgescope.losses import LOSSES
from edgescope.measures import MEASURES
from edgescope.models import MODELS
from edgescope.optim import OPTIMIZERS
from edgescope.registry import Registry
from edgescope.studies import STUDIES

ROOT = Path(__file__).parents[2]

COMMANDS_THAT_COMPUTE_NOTHING = """
import json, sys
from edgescope.cli import COMMANDS, main

assert main(["list"]) == 0
for name in COMMANDS:
    assert name == "train" or main([name, "--help"]) == 0
print(json.dumps([name for name in ("torch", "numpy", "scipy", "polars", "numba", "altair") if name in sys.modules]))
"""


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


def in_a_new_process(*arguments: str, folder: Path = ROOT) -> str:
    """What a script of this checkout prints in a process that has loaded nothing before."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, encoding="utf-8", env=environment, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_file_of_names_is_what_the_registries_contain() -> None:
    written = in_a_new_process("tools/write_listing.py", "--print")
    assert FILE.read_text(encoding="utf-8") == written, "tools/write_listing.py writes the file anew"


def test_names_are_listed_and_help_is_shown_without_loading_torch() -> None:
    *text, loaded = in_a_new_process("-c", COMMANDS_THAT_COMPUTE_NOTHING).splitlines()
    assert json.loads(loaded) == []
    words = " ".join(text).split()
    for registry in (DATA, LOSSES, MEASURES, MODELS, OPTIMIZERS, STUDIES):
        assert {name for name in registry if registry[name].__module__.startswith("edgescope.")} <= set(words)


def test_a_registry_that_is_loaded_is_listed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Registry[object] = Registry("model")
    known.add("of-the-user", type("OfTheUser", (), {"__doc__": "A model of the user's.\n\nMore."}))
    monkeypatch.setattr("edgescope.models.MODELS", known)
    assert choices_of("models") == [Choice("of-the-user", "A model of the user's.", "")]
    monkeypatch.delitem(sys.modules, "edgescope.models")
    assert "mlp" in [choice.name for choice in choices_of("models")]


def test_names_of_the_user_are_found_where_nothing_was_loaded_before(tmp_path: Path) -> None:
    module = """
from edgescope.losses import LOSSES

class Own:
    '''A loss of the user's.'''

LOSSES.add("users-own", Own)
"""
    (tmp_path / "users_loss.py").write_text(module, encoding="utf-8")
    listed = in_a_new_process("-m", "edgescope", "list", "--module", "users_loss", folder=tmp_path)
    assert "users-own A loss of the user's." in " ".join(listed.split())
    assert "Fully connected layers" in listed  # of a model
