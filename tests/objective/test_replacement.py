"""Functions that are replaced in the threads that measure, and in no other, and for no longer."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgescope.objective.modules import autocast_off_inside
from edgescope.objective.replacement import Replacement


def rounds() -> bool:
    """Whether autocast rounds in this thread."""
    with torch.autocast("cpu", torch.bfloat16):
        return torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype is torch.bfloat16


@given(ends=st.permutations(range(4)))
def test_contexts_that_end_in_any_order_leave_the_original(ends: list[int]) -> None:
    owner = SimpleNamespace(answer=lambda: "original")
    before, replaced = owner.answer, Replacement(owner, answer=lambda: "replaced")
    stacks = [ExitStack() for _ in ends]
    for stack in stacks:
        stack.enter_context(replaced())
    for place, end in enumerate(ends):
        assert owner.answer() == "replaced"
        stacks[end].close()
        assert (owner.answer is before) == (place == len(ends) - 1)


def test_two_threads_that_overlap_leave_autocast_as_it_was() -> None:
    before, on = torch.autocast.__enter__, rounds()
    entered, left = threading.Event(), threading.Event()
    seen: dict[str, bool] = {}

    def other() -> None:
        with autocast_off_inside():
            seen["inside"] = rounds()
            entered.set()
            left.wait(30)

    with autocast_off_inside():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(30)
        assert not rounds()
    assert rounds() == on, "this thread has ended, though the other has not"
    left.set()
    thread.join()
    assert seen == {"inside": False}
    assert torch.autocast.__enter__ is before


def test_an_error_inside_ends_it() -> None:
    owner = SimpleNamespace(answer=lambda: "original")
    replaced = Replacement(owner, answer=lambda: "replaced")
    with pytest.raises(ZeroDivisionError), replaced(), replaced():
        raise ZeroDivisionError
    assert owner.answer() == "original"
