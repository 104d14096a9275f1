"""The checks of options, one by one: what passes comes out as a plain Python object, all else as one clear line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope.errors import InputError, UnknownNameError
from edgescope.options import (
    HIGHEST,
    LARGEST,
    SMALLEST,
    check_bool,
    check_each,
    check_fields,
    check_float,
    check_int,
    check_seed,
    check_text,
    checked,
    each,
    integer,
    optional,
    real,
    shown,
)

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.complex_numbers(), st.lists(st.integers())
)


def attempted(check: Callable[..., Any], value: Any, **bounds: Any) -> Any:
    """What the check gives back, or its error."""
    try:
        return check("owner", "name", value, **bounds)
    except InputError as error:
        return error


@given(ANYTHING, st.integers(-5, 5), st.integers(0, 10))
def test_a_whole_number_is_within_its_bounds_or_refused_in_one_line(value: Any, least: int, span: int) -> None:
    fits = type(value) is int and least <= value <= least + span
    found = attempted(check_int, value, least=least, most=least + span)
    assert isinstance(found, InputError) is not fits
    if fits:
        assert found == value
    else:
        assert str(found).startswith("owner with name=")
        assert f"from {least} to {least + span}" in str(found)
        assert "\n" not in str(found)


@given(ANYTHING, st.sampled_from([None, 0.0, 0.5]), st.sampled_from([None, 0.0, -2.0]), st.sampled_from([None, 1.0]))
def test_a_number_is_finite_and_within_its_bounds_or_refused(
    value: Any, above: float | None, least: float | None, below: float | None
) -> None:
    number = float(value) if type(value) in (int, float) and not abs(value) > LARGEST else math.nan
    fits = (
        math.isfinite(number)
        and (above is None or number > above)
        and (above != 0 or number >= SMALLEST)
        and (least is None or number >= least)
        and (below is None or number < below)
    )
    found = attempted(check_float, value, above=above, least=least, below=below)
    assert isinstance(found, InputError) is not fits
    assert (type(found) is float and found == value) if fits else "\n" not in str(found)


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (lambda: check_int("a run", "k", 0, least=1), "a run with k=0; expected a whole number of at least 1"),
        (lambda: check_int("a run", "k", True), "k=True; expected a whole number"),
        (lambda: check_int("a run", "k", 2**63, least=1), r"of at least 1, below 2\^63"),
        (lambda: check_int("a run", "k", -(2**70)), r"below 2\^63"),
        (lambda: check_int("a run", "k", 10**5000, least=1), r"k=\(16610 bits\); expected"),
        (lambda: check_int("a run", "k", 3, most=2), "a whole number of at most 2"),
        (lambda: check_int("a run", "k", 1.0, hint="k=1"), "k=1; expected a whole number; try k=1"),
        (lambda: check_float("a run", "lr", math.nan, above=0), "lr=nan; expected a finite number above 0$"),
        (lambda: check_float("a run", "lr", 1e300, above=0), r"a finite number above 0 and at most 1e\+18"),
        (lambda: check_float("a run", "lr", 1e-300, above=0), "a finite number of at least 1e-30$"),
        (lambda: check_float("a run", "lr", 10**400), "lr=.*a finite number"),
        (lambda: check_float("a run", "lr", "0.1", least=0, below=1), "lr='0.1'; .* of at least 0 and below 1"),
        (lambda: check_float("a run", "lr", np.bool_(True)), "a finite number"),
        (lambda: check_seed("a run", -1), "seed=-1; expected a whole number of at least 0"),
        (lambda: check_bool("a run", "grow", 1), "grow=1; expected True or False"),
        (lambda: check_text("a run", "data", " ", empty=False), "data=' '; expected text that is not empty"),
        (lambda: check_text("a run", "data", 3), "data=3; expected text"),
        (lambda: check_each("a run", "w", (1, 0), check=integer(1)), r"w\[1\]=0; expected a whole number"),
        (lambda: check_each("a run", "w", 3, check=integer(1)), "w=3; expected a tuple"),
        (lambda: check_text("a run", "data", "x" * 1000 + "\0"), r"data='x{50,60}\[\.\.\.\]; expected"),
    ],
)
def test_the_line_names_owner_option_value_and_what_is_expected(check: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [np.int8(3), np.int64(3), np.uint16(3)])
def test_whole_numbers_of_numpy_come_out_plain(number: Any) -> None:
    assert type(check_int("a run", "k", number, least=1)) is int
    assert type(check_float("a run", "lr", number)) is float


@dataclass(frozen=True)
class Options:
    count: int = 3
    share: float | None = None
    widths: tuple[int, ...] = (2, 2)
    method: Literal["exact", "sampled"] = "exact"
    grow: bool = False
    name: str = ""
    seed: int = 0
    thing: Any = None

    def __post_init__(self) -> None:
        check_fields(self, "options", count=integer(1), share=optional(real(above=0)), widths=each(integer(1)))


def test_fields_without_a_check_are_held_against_their_annotations() -> None:
    found = Options(np.int64(4), 1, [3, np.int64(2)], "sampled", np.bool_(True), thing=object())  # type: ignore[arg-type]
    assert (found.count, found.share, found.widths, found.grow) == (4, 1.0, (3, 2), True)
    assert [type(v) for v in (found.count, found.share, found.grow, *found.widths)] == [int, float, bool, int, int]
    for wrong, said in (
        ({"count": 0}, "options with count=0; expected a whole number of at least 1; try count=3"),
        ({"share": 0.0}, "share=0; expected a finite number above 0$"),
        ({"widths": (1, -1)}, r"widths\[1\]=-1; .*; try widths=2x2"),
        ({"grow": 0}, "grow=0; expected True or False; try grow=false"),
        ({"name": 3}, "name=3; expected text$"),
        ({"seed": -1}, "seed=-1; expected a whole number of at least 0; try seed=0"),
    ):
        with pytest.raises(InputError, match=said):
            Options(**wrong)
    with pytest.raises(UnknownNameError, match="method='exactly'; expected one of exact, sampled; try 'exact'"):
        Options(method="exactly")  # type: ignore[arg-type]


def test_a_check_of_a_field_that_is_not_there_is_a_fault_of_the_programmer() -> None:
    with pytest.raises(TypeError, match="no field 'probes'"):
        check_fields(Options(), "options", probes=integer(1))


@checked(k=integer(1), tol=real(above=0, below=1), most=optional(integer(1)))
def solve(thing: Any, k: int = 1, *, tol: float = 0.5, most: int | None = None, seed: int = 0) -> tuple[Any, ...]:
    """Solves."""
    return thing, k, tol, most, seed


def test_arguments_are_checked_by_name_wherever_they_stand() -> None:
    assert solve("a", np.int64(3), most=np.int64(4), seed=7) == ("a", 3, 0.5, 4, 7)
    assert type(solve("a", np.int64(3))[1]) is int
    assert (solve.__name__, solve.__doc__) == ("solve", "Solves.")
    for arguments, options, said in (
        (("a", 0), {}, "solve with k=0; expected a whole number of at least 1; try k=1"),
        (("a",), {"tol": 1.0}, "tol=1; expected a finite number above 0 and below 1; try tol=0.5"),
        (("a",), {"most": 0}, "most=0; expected a whole number of at least 1$"),
        (("a",), {"seed": HIGHEST + 1}, "seed=9223372036854775808; .* below 2"),
    ):
        with pytest.raises(InputError, match=said):
            solve(*arguments, **options)
    with pytest.raises(TypeError, match="missing"):
        solve()


@given(ANYTHING)
def test_what_is_shown_is_short(value: Any) -> None:
    assert len(shown(value)) <= 66
