"""The names that users import."""

from __future__ import annotations

import pytest

import edgescope


@pytest.mark.parametrize("name", edgescope.__all__)
def test_every_public_name_is_there(name: str) -> None:
    thing = getattr(edgescope, name)
    assert thing is getattr(edgescope, name)
    assert name in dir(edgescope)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Moniter"):
        _ = edgescope.Moniter
