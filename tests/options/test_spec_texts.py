"""Whatever text a registry is given, it answers with a thing or with an error of this library."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from registered import NEEDED, REGISTRIES, options

from edgescope.errors import EdgescopeError, InputError, UnknownNameError
from edgescope.measures import MEASURES
from edgescope.models import MODELS
from edgescope.registry import Registry

NAMES = st.sampled_from([(registry, name) for registry in REGISTRIES for name in registry])
NUMBERS = ["0", "1", "-1", "nan", "inf", "-inf", "1e308", "1e-320", "9" * 30, "9" * 5000, "1_0", "0x10", "٣", "2.5"]
TEXTS = ["", "x", "16x16", "0x0", "none", "true", "sgd", "linf", "mixed", "digits", "a\0b", "~nobody/x", "sam:base=sam"]
VALUES = st.one_of(st.sampled_from(NUMBERS + TEXTS), st.text(max_size=20))
FIELDS = sorted({option.field for option in options()})
PIECES = st.tuples(st.one_of(st.sampled_from(FIELDS), st.text(max_size=10)), VALUES).map("=".join)


def one_answer(registry: Registry[Any], spec: Any) -> Any:
    try:
        return registry.build(spec)
    except EdgescopeError as error:
        said = str(error)
        assert said
        assert "\n" not in said
        assert len(said) < 1000
        return None


@settings(max_examples=400)
@given(NAMES, st.lists(PIECES, max_size=4), st.sampled_from([",", ";", ":", "=", ""]))
def test_texts_made_of_names_options_and_values(thing: Any, pieces: list[str], join: str) -> None:
    registry, name = thing
    one_answer(registry, f"{name}:{join.join(pieces)}")


@settings(max_examples=300)
@given(st.sampled_from(REGISTRIES), st.one_of(st.text(max_size=40), st.none(), st.integers(), st.binary(max_size=4)))
@example(REGISTRIES[0], "sharpness:" * 2000)
def test_anything_at_all(registry: Registry[Any], spec: Any) -> None:
    one_answer(registry, spec)


@pytest.mark.parametrize("option", [o for o in options() if o.kind != "setup"], ids=str)
def test_every_option_is_held_against_the_same_checks_as_text(option: Any) -> None:
    """What is refused as a number is refused as text, and what is built keeps to the annotation."""
    registry = next(registry for registry in REGISTRIES if registry.kind == option.kind)
    needed = "".join(f",{k}={v}" for k, v in NEEDED.get((option.kind, option.name), {}).items() if k != option.field)
    rate = option.kind == "measure" and option.field.endswith("lr")
    for text in (*NUMBERS, *TEXTS):
        found = one_answer(registry, f"{option.name}:{option.field}={text}{needed}")
        if found is not None:
            value = getattr(found, option.field)
            assert registry[option.name](**_fields(found)) is not None
            assert not (isinstance(value, float) and (value != value or abs(value) > (1e30 if rate else 1e18)))
            assert not (isinstance(value, int) and abs(value) >= 2**63)


def _fields(thing: Any) -> dict[str, Any]:
    return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing) if field.init}


@pytest.mark.parametrize(
    ("registry", "spec", "said"),
    [
        (MEASURES, "sharpness:k=1,k=2", "option 'k' of measure 'sharpness' was given twice"),
        (MEASURES, "sharpness:k=", "measure 'sharpness' with k=''; expected a whole number"),
        (MEASURES, "sharpness:k=0", "measure 'sharpness' with k=0; expected a whole number of at least 1; try k=1"),
        (MEASURES, 3, "a measure given as a int; expected its name, with options"),
        (MODELS, "mlp:widths=x", "model 'mlp' with widths='x'; expected whole numbers joined by x"),
        (MODELS, "mlp:widths=16x", "widths='16x'; expected whole numbers joined by x"),
        (MODELS, "mlp:widths=16xx16", "widths='16xx16'"),
        (MODELS, "m" * 5000, r"unknown model 'm{50,60}\[\.\.\.\]; expected one of"),
    ],
)
def test_what_cannot_be_read_is_named(registry: Registry[Any], spec: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        registry.build(spec)


def test_an_option_without_default_is_asked_for_and_a_class_without_options_has_none() -> None:
    @dataclass
    class Needy:
        size: int

    class Plain:
        pass

    things: Registry[Any] = Registry("thing")
    things.add("needy", Needy)
    things.add("plain", Plain)
    assert things.build("needy:size=3") == Needy(3)
    assert isinstance(things.build("plain"), Plain)
    with pytest.raises(InputError, match=r"thing 'needy' without option 'size'; try 'needy:size=\.\.\.'"):
        things.build("needy")
    with pytest.raises(UnknownNameError, match="thing 'plain' has no option 'size'; expected no options"):
        things.build("plain:size=3")
