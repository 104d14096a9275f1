"""Annotations are checked while the tests run, and errors of users stay the library's own."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import type_checks
from jaxtyping import TypeCheckError

import edgescope as es
from edgescope.claims import JudgedCase
from edgescope.claims.judge import separating_factor
from edgescope.dimension.lyapunov import LyapunovExponents, _block_errors
from edgescope.objective.samples import refuse_other_mean


def test_a_wrong_shape_is_found_in_an_internal_function() -> None:
    _block_errors(torch.zeros(4, 2))
    with pytest.raises(TypeCheckError, match="growth"):
        _block_errors(torch.zeros(4, 2, 3))


def test_a_wrong_dtype_is_found_in_an_internal_function() -> None:
    with pytest.raises(TypeCheckError, match="growth"):
        _block_errors(torch.zeros(4, 2, dtype=torch.int64))


def test_arrays_are_checked_in_every_package() -> None:
    refuse_other_mean(torch.ones(3), torch.ones(()))
    with pytest.raises(TypeCheckError, match="losses"):
        refuse_other_mean(torch.ones(3, 1), torch.ones(()))


def test_sizes_of_one_name_have_to_agree() -> None:
    with pytest.raises(TypeCheckError, match="error"):
        LyapunovExponents(
            exponents=torch.zeros(2),
            error=torch.zeros(3),
            growth=torch.zeros(4, 2),
            running=torch.zeros(4, 2),
            size=2,
            steps=4,
            warmup=0,
            products=8,
            seconds=0.0,
        )


def test_a_wrong_type_that_is_refused_keeps_its_own_words() -> None:
    with pytest.raises(es.errors.InputError, match=r"^a value of type str is not an operator; expected an Objective"):
        es.trace("x")  # type: ignore[arg-type]


def test_the_first_calls_are_checked_and_then_one_in_some() -> None:
    called: list[bool] = []
    call = type_checks.checked_in_part(lambda: called.append(False), lambda _: lambda: called.append(True))
    for _ in range(type_checks.FIRST + 2 * type_checks.EVERY):
        call()
    assert all(called[: type_checks.FIRST])
    assert sum(called[type_checks.FIRST :]) == 2


def test_every_test_checks_its_own_first_calls() -> None:
    key = id(_block_errors.__wrapped__.__code__)
    assert key not in type_checks.CALLS
    _block_errors(torch.zeros(4, 2))
    assert type_checks.CALLS[key] == 1


def test_a_function_that_is_defined_anew_counts_on() -> None:
    made, called = [], []

    def checked(plain: Callable[[], None]) -> Callable[[], None]:
        made.append(plain)
        return lambda: called.append(plain)

    for _ in range(type_checks.FIRST + type_checks.EVERY):

        def inner() -> None:
            """One code, another function each time."""

        type_checks.checked_in_part(inner, checked)()
    assert len(made) == len(called) == type_checks.FIRST + 1


def test_only_modules_that_cannot_be_wrapped_are_left_out() -> None:
    checked = type_checks.modules()
    paths = [path.relative_to(type_checks.SOURCES) for path in type_checks.SOURCES.glob("edgescope/*/**/*.py")]
    every = {".".join(path.with_suffix("").parts) for path in paths if path.name != "__init__.py"}
    assert every - set(checked) - set(type_checks.MEASURED) == {
        "edgescope.dimension.particle_steps",
        "edgescope.monitor.step_hooks",
        "edgescope.simulate.chains",
        "edgescope.simulate.linear_nets",
        "edgescope.simulate.relu_batchnorm",
        "edgescope.simulate.relu_steps",
        "edgescope.theory.diagonal.descent",
    }


def test_the_checks_leave_the_generator_of_python_as_it_was() -> None:
    random.seed(0)
    before = random.getstate()
    for _ in range(20):
        separating_factor([JudgedCase("a", 1.0, 1.0, 1.0, "holds")] * 3)  # a list, of which one entry is checked
    assert random.getstate() == before
