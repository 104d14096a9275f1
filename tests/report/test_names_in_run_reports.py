"""Names from records as files and rows, and optimizers in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope.report.run_report.names import coarser, file_name
from edgescope.report.run_report.optimizers import group_names, optimizer_text, rate_of


@given(names=st.lists(st.text(max_size=80), max_size=12))
def test_any_name_is_a_file_and_no_two_are_the_same(names: list[str]) -> None:
    taken: set[str] = set()
    files = [file_name(name, taken) for name in names]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) for name in files)


@given(count=st.integers(1, 200), most=st.integers(6, 64), depth=st.integers(0, 3))
def test_layers_are_joined_until_there_is_room(count: int, most: int, depth: int) -> None:
    names = [".".join([*(f"block{i // 10**d}" for d in range(depth, 0, -1)), f"w{i}"]) for i in range(count)]
    groups = coarser(names, most)
    assert list(groups) == names
    assert len(set(groups.values())) <= most
    assert len(set(groups.values())) >= min(count, 6, most) // 2


def test_weights_and_biases_of_a_module_are_one_layer() -> None:
    names = ["0.weight", "0.bias", "2.weight", "scale"]
    assert list(coarser(names, 48, modules=True).values()) == ["0", "0", "2", "scale"]


def test_many_parts_under_one_name_are_joined_with_their_neighbours() -> None:
    names = [f"block.{i}.w" for i in range(96)]
    groups = coarser(names, 48)
    assert groups["block.0.w"] == groups["block.1.w"] == "block.0.w to block.1.w"


ADAM = {
    "name": "AdamW",
    "groups": [
        {"lr": 0.01, "betas": [0.9, 0.999], "weight_decay": 0.1, "parameters": 5},
        {"lr": 0.003, "betas": [0.9, 0.999], "weight_decay": 0, "parameters": 5},
    ],
}
SGD = {"name": "SGD", "groups": [{"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0, "parameters": 9}]}


def test_optimizers_in_words() -> None:
    assert optimizer_text([SGD]) == "SGD (momentum 0.9; nesterov)"
    assert rate_of([SGD]) == 0.1
    warming = {"name": "SGD", "groups": [{"lr": 0.0, "initial_lr": 0.3}]}
    assert rate_of([warming]) == 0.3, "a warm-up begins at 0"
    words = (
        "AdamW (lr 0.01 in group 0, 0.003 in group 1; betas 0.9 and 0.999; weight_decay 0.1 in group 0, 0 in group 1)"
    )
    assert optimizer_text([ADAM]) == words
    assert rate_of([ADAM]) is None
    assert optimizer_text([SGD, ADAM]) == f"SGD (lr 0.1; momentum 0.9; nesterov) and {words}"


def test_names_of_parameter_groups() -> None:
    assert group_names([ADAM]) == ["group 0", "group 1"]
    assert group_names([SGD, ADAM]) == ["SGD", "AdamW, group 0", "AdamW, group 1"]
    assert group_names([SGD, SGD]) == ["SGD (0)", "SGD (1)"]


@pytest.mark.parametrize("nothing", [None, 3, "x", [], [1], [{"name": "SGD"}], [{"name": "SGD", "groups": []}]])
def test_descriptions_that_say_nothing(nothing: object) -> None:
    assert optimizer_text(nothing) is None
    assert rate_of(nothing) is None
    assert group_names(nothing) == []
