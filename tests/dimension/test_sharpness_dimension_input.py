"""Arguments of the sharpness dimension: those that are refused, and options in both forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from trained_network import network

import edgescope as es
from edgescope.dimension import DimensionOptions
from edgescope.errors import InputError, MemoryBudgetError, NotKnownError, UnknownNameError

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def none() -> Iterator[Tensor]:
    return iter(())


def twice(found: es.Spectrum) -> es.Spectrum:
    return found.merge(found)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, o: es.sharpness_dimension(o), "neither lr nor optimizer"),
        (lambda m, o: es.sharpness_dimension(o, 0.0), "lr=0;"),
        (lambda m, o: es.sharpness_dimension(o, math.nan), "lr=nan"),
        (lambda m, o: es.sharpness_dimension(o, -0.1), "lr=-0.1"),
        (lambda m, o: es.sharpness_dimension(o, "fast"), "lr='fast'"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, optimizer=torch.optim.SGD(m.parameters(), lr=1)), "both lr and"),
        (lambda m, o: es.sharpness_dimension(o, optimizer="sgd"), "optimizer of type str"),
        (
            lambda m, o: es.sharpness_dimension(o, optimizer=torch.optim.SGD(m.parameters(), lr=1), method="slq"),
            "optimizer= with method='slq'",
        ),
        (
            lambda m, o: es.sharpness_dimension(torch.eye(2), optimizer=torch.optim.SGD(m.parameters(), lr=1)),
            "optimizer= without an Objective",
        ),
        (
            lambda m, o: es.sharpness_dimension(o, optimizer=torch.optim.SGD(m.parameters(), lr=1, momentum=0.9)),
            "a step of SGD is singular .51 singular values",
        ),
        (lambda m, o: es.sharpness_dimension(torch.diag(torch.tensor([1.0, 2.0])), 0.5), "lr=0.5 is singular"),
        (
            # 1 up to the rounding of the other eigenvalue, which is negative
            lambda m, o: es.sharpness_dimension(torch.diag(torch.tensor([-1e6, 1 - 1e-10], dtype=torch.float64)), 1.0),
            "lr=1 is singular",
        ),
        (lambda m, o: es.sharpness_dimension(o, 0.1, batch_size=41), "batch size of 41.*1 to 40"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, batch_size=0), "batch_size=0"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, batch_size=4, batches=0), "batches=0"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, batches=4), "batches=4 without batch_size"),
        (lambda m, o: es.sharpness_dimension(torch.eye(2), 0.1, batch_size=4), "batch_size= and batches= draw"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, method="slq", probes=0), "probes=0"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, method="slq", steps=0), "steps=0"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, method="slq", max_steps=0), "max_steps=0"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, method="slq", tol=0.0), "tol=0"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, method="slq", averaging="sorted"), "averaging='sorted' with"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, method="kde", bandwidth=-1.0), "bandwidth=-1"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, method="ps", quantiles=0), "quantiles=0"),
        (lambda m, o: es.sharpness_dimension(o, 0.1, dead_zones=[0.0]), r"dead_zones\[0\]=0"),
        (lambda m, o: es.sharpness_dimension([torch.eye(2), torch.eye(3)], 0.1), "different sizes .2, 3."),
        (lambda m, o: es.sharpness_dimension(none(), 0.1), "no objectives and no operators"),
        (lambda m, o: es.sharpness_dimension(["a"], 0.1), "str is not an operator"),
        (lambda m, o: es.sharpness_dimension(3, 0.1), "int is not an operator"),
        (lambda m, o: es.sharpness_dimension(es.spectrum(o, steps=5), 0.1), "method='exact' of a spectrum by 'slq'"),
        (
            lambda m, o: es.sharpness_dimension(
                es.spectrum(o, method="exact").merge(es.spectrum(o, method="exact")), 1.0
            ),
            "102 nodes for 51 eigenvalues; expected one exact spectrum for each mini-batch",
        ),
        (
            lambda m, o: es.sharpness_dimension(es.spectrum(o), optimizer=torch.optim.SGD(m.parameters(), lr=1)),
            "optimizer= without an Objective",
        ),
    ],
)
def test_bad_dimensions_are_one_clear_line(call: Callable[[object, object], object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call(*network(0, steps=0))
    assert "\n" not in str(caught.value)


def test_names_that_are_not_known_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"method='exakt'.*try 'exact'"):
        es.sharpness_dimension(torch.eye(2), 0.1, method="exakt")
    with pytest.raises(UnknownNameError, match=r"averaging='pool'.*try 'pooled'"):
        es.sharpness_dimension(torch.eye(2), 0.1, averaging="pool")
    with pytest.raises(UnknownNameError, match=r"option='prob'; expected one of method.*try 'probes'"):
        es.sharpness_dimension(torch.eye(2), 0.1, prob=3)
    with pytest.raises(InputError, match="options given as a value of type dict"):
        es.sharpness_dimension(torch.eye(2), 0.1, options={"probes": 3})  # type: ignore[arg-type]
    model, objective = network(0, steps=0)
    with pytest.raises(NotKnownError, match="no update rule is known for the optimizer LBFGS"):
        es.sharpness_dimension(objective, optimizer=torch.optim.LBFGS(model.parameters()))


def test_memory_of_a_dense_jacobian_is_estimated_before_it_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective = network(0, steps=0)
    monkeypatch.setattr("edgescope.memory.available", lambda device="cpu": 50_000)
    with pytest.raises(MemoryBudgetError, match=r"dense Jacobian of size 51 .parameters. needs an estimated 81.3 KiB"):
        es.sharpness_dimension(objective, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))


def test_options_are_keyword_arguments_or_an_object_that_they_replace() -> None:
    _, objective = network(0, steps=0)
    options = DimensionOptions(method="slq", probes=2, steps=4, max_steps=4)
    by_object = es.sharpness_dimension(objective, 0.3, options=options)
    by_keyword = es.sharpness_dimension(objective, 0.3, method="slq", probes=2, steps=4, max_steps=4)
    assert by_object.dimension == by_keyword.dimension
    assert es.sharpness_dimension(objective, 0.3, options=options, probes=3).probes == 3
