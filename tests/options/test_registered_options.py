"""No class that is known by name takes an option that means nothing: every field, and every value of its type."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from registered import REGISTRIES, Option, options

from edgescope.errors import InputError, MemoryBudgetError
from edgescope.options import shown

ANY = "*"

WHOLE_OF = ("cifar10", "cifar10-5k", "digits", "fashion-5k", "fashion-mnist", "licence", "mnist", "modular-addition")
"""Data sets of so many samples; of the others as many are drawn as are asked for."""

ACCEPTED: tuple[tuple[str, str, str, tuple[Any, ...], str], ...] = (
    # kind, name, field, values, why
    (ANY, ANY, "seed", (0,), "a seed like any other"),
    ("measure", "directional_smoothness", "geometry", ("",), "the optimizer's own"),
    ("measure", "generalized_sharpness", "geometry", ("",), "the optimizer's own"),
    ("measure", "generalized_sharpness", "certificate", (0,), "no certificate"),
    ("measure", "persistent_homology", "after", (0,), "from the first step on"),
    ("measure", "gradient_noise", "samples", (None,), "all samples"),
    ("measure", "learning_coefficient", "beta", (None,), "1/log n"),
    ("measure", "learning_coefficient", "n", (None,), "the objective's samples"),
    ("measure", "headroom", "population", (None,), "the data are all there are"),
    ("measure", "block_sharpness", "blocks", ((), ("nonsense",)), "each module; a glob is compared with names later"),
    ("measure", ANY, "batch", (None,), "all data at once"),
    ("measure", ANY, "lr", (None,), "the optimizer's own"),
    ("measure", "sharpness_dimension", "fixed_lr", (None,), "no second rate"),
    ("optimizer", ANY, "weight_decay", (0.0, 1e-320), "none"),
    ("optimizer", "adagrad", "lr_decay", (0.0, 1e-320), "none"),
    ("optimizer", "adagrad", "initial_accumulator_value", (0.0, 1e-320), "none"),
    ("optimizer", "nadam", "momentum_decay", (0.0, 1e-320), "a constant momentum"),
    ("optimizer", ANY, "momentum", (0.0, 1e-320), "none"),
    ("optimizer", "sgd", "dampening", (0.0,), "none"),
    ("optimizer", ANY, "eps", (0.0, 1e-320), "the formula of the papers, without a floor"),
    ("optimizer", "rmsprop", "alpha", (0.0, 1e-320), "no memory: descent by the sign"),
    ("optimizer", "scalar-rmsprop", "alpha", (0.0, 1e-320), "no memory: normalized descent"),
    ("optimizer", "muon", "adjust_lr_fn", (None,), "torch's default"),
    ("model", "mlp", "widths", ((),), "a linear model"),
    ("model", "cnn", "dense", ((),), "a linear head after the convolutions"),
    *(("data set", name, "train", (None,), "all samples") for name in (*WHOLE_OF, "text")),
    *(("data set", name, "test", (None,), "all samples") for name in (*WHOLE_OF, "text")),
    ("data set", ANY, "folder", (None, "nonsense"), "a download; a folder is looked for when it is read"),
    ("data set", ANY, "path", ("nonsense",), "a file is looked for when it is read"),
    ("data set", "teacher", "signals", ((-1.0,), (0.0,), (1e-320,)), "correlations, of either sign, or none"),
    ("schedule", ANY, "final", (0.0, 1e-320), "a learning rate that goes to zero"),
    ("loss", "linear-cross-entropy", "head", ("nonsense",), "a layer is looked for in the model"),
    ("loss", "linear-cross-entropy", "chunk", (None,), "as many tokens as take little memory"),
    ("loss", ANY, "smoothing", (0.0, 1e-320), "none"),
    ("setup", ANY, "measures", ((),), "a run that is trained alone"),
    ("setup", ANY, "stop_loss", (None, -1.0, 0.0, 1e-320), "a loss of the user's may be negative"),
    ("setup", ANY, "function", (None, "nonsense"), "no function; one is looked for when the run is built"),
    *(
        ("setup", ANY, field, (None,), "off, or chosen by the run")
        for field in ("batch", "clip", "train", "test", "every", "budget", "stop_accuracy", "threads", "path", "device")
    ),
)


def accepted(option: Option, value: Any) -> bool:
    return any(
        kind in (ANY, option.kind)
        and name in (ANY, option.name)
        and field == option.field
        and any(type(value) is type(known) and value == known for known in values)
        for kind, name, field, values, _ in ACCEPTED
    )


def refusal(option: Option, value: Any) -> str:
    try:
        option.made_with(value)
    except (InputError, MemoryBudgetError) as error:
        return str(error)
    pytest.fail(f"{option} took {shown(value)}")


@pytest.mark.parametrize("option", options(), ids=str)
def test_values_that_mean_nothing_are_refused_in_one_line(option: Option) -> None:
    for value in option.values():
        if accepted(option, value):
            option.made_with(value)
            continue
        said = refusal(option, value)
        assert "\n" not in said
        assert len(said) < 1000
        assert option.field in said or "unknown" in said or "without a file" in said
        assert "expected" in said


def test_no_row_of_the_table_is_left_of_an_option_that_is_gone() -> None:
    known = options()
    for kind, name, field, values, _ in ACCEPTED:
        of_it = [o for o in known if kind in (ANY, o.kind) and name in (ANY, o.name) and o.field == field]
        assert of_it, (kind, name, field)
        for value in values:
            assert any(value in _plain(o.values()) for o in of_it), (field, value)


def _plain(values: list[Any]) -> list[Any]:
    return [value for value in values if not (isinstance(value, float) and math.isnan(value))]


def test_every_registry_is_looked_through() -> None:
    kinds = {registry.kind for registry in REGISTRIES}
    assert kinds == {"measure", "optimizer", "model", "data set", "loss", "geometry", "schedule", "setup", "study"}
    assert len(options()) > 200


@pytest.mark.parametrize("option", [o for o in options() if o.hint in (int, float)], ids=str)
def test_numbers_of_numpy_are_taken_as_plain_ones(option: Option) -> None:
    thing = option.made_with(_default(option))
    usual = getattr(thing, option.field)
    again = option.made_with(np.int64(usual) if option.hint is int else np.float64(usual))
    assert type(getattr(again, option.field)) is option.hint
    assert getattr(again, option.field) == usual


def _default(option: Option) -> Any:
    registry = next(registry for registry in REGISTRIES if registry.kind == option.kind)
    return {f.name: f.default for f in dataclasses.fields(registry[option.name])}[option.field]
