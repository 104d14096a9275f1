"""The measure of each part of the model, against the dense Hessian and the dense preconditioned one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_problem import Problem

import edgescope as es
from edgescope.errors import InputError
from edgescope.measures import MEASURES
from edgescope.measures.blocks import blocks_named
from edgescope.objective.layout import Layout

EXACT = "num_matvecs=60"  # more than the 51 parameters
BLOCKS = {"0.*": [slice(0, 30)], "*.bias": [slice(48, 51)], "rest": [slice(30, 48)]}


def test_tops_traces_and_masses_are_those_of_the_dense_blocks() -> None:
    problem = Problem()
    hessian = problem.hessian()
    found = es.measure(problem.objective, f"block_sharpness:blocks=0.*;*.bias,{EXACT},tol=1e-4")
    values, vectors = torch.linalg.eigh(hessian)
    for name, (place,) in BLOCKS.items():
        block = hessian[place, place]
        top, trace = torch.linalg.eigvalsh(block)[-1], block.trace()
        assert abs(found.values[f"top/{name}"] - float(top)) <= found.errors[f"top/{name}"]
        assert abs(found.values[f"trace/{name}"] - float(trace)) <= found.errors[f"trace/{name}"] + 1e-12
        assert found.values[f"mass/{name}"] == pytest.approx(float(vectors[place, -1].square().sum()), abs=0.02)
        assert found.values[f"top/{name}"] <= float(values[-1])
    assert len(found.values) == 9
    assert not found.note


def test_probes_are_shared_by_the_blocks() -> None:
    found = es.measure(Problem().objective, "block_sharpness:blocks=*.weight,num_matvecs=20,seed=5")
    again = es.measure(Problem().objective, "block_sharpness:blocks=0.*;2.*,num_matvecs=20,seed=5")
    whole = sum(value for name, value in found.values.items() if name.startswith("trace/"))
    assert sum(v for n, v in again.values.items() if n.startswith("trace/")) == pytest.approx(whole)
    assert found.errors["trace/rest"] > 0


def test_the_limiting_direction_is_that_of_the_optimizers_metric() -> None:
    problem = Problem(3)
    optimizer = torch.optim.RMSprop(problem.model.parameters(), lr=1e-3, eps=1e-3)
    problem.train(optimizer, 5)
    found = es.measure(problem.objective, "block_sharpness:blocks=0.*;*.bias", optimizer=optimizer)
    root = torch.cat([optimizer.state[p]["square_avg"].flatten() for p in problem.model.parameters()]).sqrt() + 1e-3
    matrix = problem.hessian() / root.sqrt() / root.sqrt()[:, None]
    vector = torch.linalg.eigh(matrix)[1][:, -1]
    euclidean = torch.linalg.eigh(problem.hessian())[1][:, -1]
    for name, (place,) in BLOCKS.items():
        assert found.values[f"mass/{name}"] == pytest.approx(float(vector[place].square().sum()), abs=0.02)
    difference = float(vector[BLOCKS["0.*"][0]].square().sum() - euclidean[BLOCKS["0.*"][0]].square().sum())
    assert abs(difference) > 0.05  # so that the other one would fail


def test_of_plain_descent_it_is_that_of_the_sharpness() -> None:
    problem = Problem(3)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1, momentum=0.9)
    problem.train(optimizer, 5)
    found = es.measure(problem.objective, "block_sharpness:blocks=0.*;*.bias", optimizer=optimizer)
    vector = torch.linalg.eigh(problem.hessian())[1][:, -1]
    for name, (place,) in BLOCKS.items():
        assert found.values[f"mass/{name}"] == pytest.approx(float(vector[place].square().sum()), abs=0.02)


def test_without_a_known_direction_there_are_tops_and_traces_and_a_note() -> None:
    problem = Problem()
    optimizer = torch.optim.Rprop(problem.model.parameters())
    problem.train(optimizer, 1)
    found = es.measure(problem.objective, "block_sharpness", optimizer=optimizer)
    assert set(found.values) == {"top/0", "top/2", "trace/0", "trace/2"}
    assert found.note.startswith("no limiting direction: ")


def run(measures: list[str], resume_at: int | None = None) -> Any:
    problem = Problem(1)
    optimizer = torch.optim.RMSprop(problem.model.parameters(), lr=0.01, eps=1e-2)
    monitor = es.Monitor(problem.objective, optimizer, every=2, measures=measures)
    for step in range(8):
        if step == resume_at:
            state = monitor.state_dict()
            monitor = es.Monitor(problem.objective, optimizer, every=2, measures=measures, resume=step)
            monitor.load_state_dict(state)
        problem.train(optimizer, 1)
        monitor.step()
    return monitor.table().select("step", "measure", "part", "value", "error", "products")


def test_a_resumed_run_continues_bit_for_bit() -> None:
    measures = ["block_sharpness:blocks=*.weight"]
    whole = run(measures)
    assert run(measures, 5).equals(whole.filter(whole["step"] > 5))


def test_the_direction_is_that_of_the_runs_own_measure_at_no_further_cost() -> None:
    alone, both = run(["effective_sharpness"]), run(["block_sharpness:blocks=*.weight", "effective_sharpness"])
    of_effective = both.filter(measure="effective_sharpness")
    assert of_effective.equals(alone)
    last = both.filter(measure="block_sharpness").filter(step=8)
    assert last["products"].sum() <= 30 + 2 * 20


def test_a_parameter_belongs_to_the_first_glob_that_matches() -> None:
    layout = Layout({"a.weight": torch.zeros(2, 2), "a.bias": torch.zeros(2), "b.bias": torch.zeros(3)})
    assert blocks_named(layout, ("*.bias",), "it") == {"*.bias": [slice(4, 6), slice(6, 9)], "rest": [slice(0, 4)]}
    assert blocks_named(layout, ("b.*", "*"), "it") == {"b.*": [slice(6, 9)], "*": [slice(0, 4), slice(4, 6)]}
    assert blocks_named(layout, (), "it") == {"a": [slice(0, 4), slice(4, 6)], "b": [slice(6, 9)]}
    with pytest.raises(InputError, match=r"it with the block 'b\.bias', which no parameter is left for"):
        blocks_named(layout, ("*", "b.bias"), "it")


@pytest.mark.parametrize("blocks", [("a", "a"), ("rest",), ("",), (1,), None, 3])
def test_globs_that_are_none_are_refused(blocks: Any) -> None:
    made: Any = MEASURES["block_sharpness"]
    with pytest.raises(InputError, match="blocks="):
        made(blocks=blocks)


def test_globs_are_given_as_text_with_semicolons() -> None:
    made: Any = MEASURES.build("block_sharpness:blocks=mixer.*; *.bias,tol=1e-3")
    assert made.blocks == ("mixer.*", "*.bias")
