"""The names that users import."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

import edgescope
from edgescope.registry import Registry

ROOT = Path(__file__).parent.parent
STUB = re.findall(r"from (\.\w*) import (?:\(\s*)?(\w+) as \2", (ROOT / "src/edgescope/__init__.pyi").read_text())
HOMES = {name: module for module, name in STUB}
"""Where each public name is defined, as type checkers read it."""


@pytest.mark.parametrize("name", edgescope.__all__)
def test_every_public_name_is_there(name: str) -> None:
    module = HOMES[name]
    found = getattr(edgescope, name)
    if module == ".":
        assert found is importlib.import_module(f".{name}", "edgescope")
    else:
        assert found is getattr(importlib.import_module(module, "edgescope"), name)
    assert getattr(found, "__doc__", None) or isinstance(found, Registry)
    assert name in dir(edgescope)


def test_the_version_is_that_of_the_package() -> None:
    assert edgescope.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Moniter"):
        _ = edgescope.Moniter
