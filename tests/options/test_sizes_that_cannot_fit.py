"""What does not fit in memory is refused with both figures before anything is allocated, and what fits is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgescope import memory
from edgescope.data import DATA, synthetic, teacher
from edgescope.data import modular_addition as addition
from edgescope.data import text as texts
from edgescope.errors import InputError, MemoryBudgetError
from edgescope.measures import MEASURES
from edgescope.measures.problem_size import ProblemSize, check_measures
from edgescope.models import MODELS, ModelConfig, parameter_count

IMAGES = (3, 8, 8)

SHAPES = {"gpt": (16,)}

HUGE = {
    "mlp": "mlp:widths=99999999999",
    "cnn": "cnn:channels=9999999999",
    "resnet": "resnet:widths=9999999999",
    "vit": "vit:width=9999999999,heads=1",
    "gpt": "gpt:width=9999999999,heads=1",
    "shallow": "shallow:width=9999999999999",
    "encoder": "encoder:width=9999999999,heads=1",
}


def test_every_model_has_a_size_that_cannot_fit() -> None:
    ours = {name for name in MODELS if MODELS[name].__module__.startswith("edgescope.")}
    assert set(HUGE) == ours


@pytest.mark.parametrize("name", HUGE)
def test_a_model_that_cannot_fit_is_refused_before_it_is_made(name: str) -> None:
    model = MODELS.build(HUGE[name])
    with pytest.raises(MemoryBudgetError, match=r"parameters needs an estimated .* TiB, and .* may be used") as caught:
        model.build(SHAPES.get(name, IMAGES), 10)
    assert f"model '{name}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HUGE)
def test_the_count_is_that_of_the_model_and_the_draw_is_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES.get(name, IMAGES)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    built = MODELS.build(name).build(shape, 10, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = MODELS.build(name).assemble(shape, 10)
    assert all(torch.equal(p, q) for p, q in zip(built.parameters(), plain.parameters(), strict=True))
    bytes_needed = 4 * parameter_count(built)
    monkeypatch.setattr(memory, "SHARE", 1.0)
    monkeypatch.setattr(memory, "available", lambda device="cpu": bytes_needed)
    MODELS.build(name).build(shape, 10)
    monkeypatch.setattr(memory, "available", lambda device="cpu": bytes_needed - 1)
    with pytest.raises(MemoryBudgetError, match=f"with {parameter_count(built):,} parameters"):
        MODELS.build(name).build(shape, 10)


def test_a_model_of_the_users_that_cannot_be_counted_is_built_unseen() -> None:
    class Picky(ModelConfig):
        def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
            layer = nn.Linear(input_shape[0], outputs)
            assert float(layer.weight.detach().sum()) != 0.0  # not to be had on the meta device
            return layer

    assert parameter_count(Picky().build((3,), 2)) == 8


@pytest.mark.parametrize(
    "spec",
    [
        "xor:train=100000000000",
        "xor:dim=100000000000",
        "ball:test=100000000000",
        "teacher:train=100000000000",
        "teacher-network:width=100000000000",
        "teacher-network:outputs=100000000000",
        "modular-addition:modulus=1000000",
        "modular-addition:modulus=1000000,mirrored=false",
    ],
)
def test_data_that_cannot_fit_are_refused_before_they_are_made(spec: str) -> None:
    source = DATA.build(spec)
    with pytest.raises(MemoryBudgetError, match=r"needs an estimated .* TiB, and .* may be used") as caught:
        source.load()
    assert f"data set '{spec.partition(':')[0]}'" in str(caught.value)


@pytest.mark.parametrize("spec", ["xor", "ball", "teacher", "teacher-network", "modular-addition", "licence"])
def test_what_is_asked_for_covers_what_is_made(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def record(needed: int, *_: Any, **__: Any) -> None:
        asked.append(needed)

    for module in (addition, synthetic, teacher, texts):
        monkeypatch.setattr(module, "require", record)
    data = DATA.build(spec).load()
    made = sum(part.nbytes for part in (data.inputs, data.targets, data.test_inputs, data.test_targets))
    assert made <= max(asked) <= 30 * made


def test_a_population_error_says_what_it_needs() -> None:
    model = nn.Linear(30, 1)
    with pytest.raises(MemoryBudgetError, match="100,000,000,000 samples needs"):
        DATA.build("xor").population_error(model, samples=10**11)  # type: ignore[attr-defined]


def test_a_text_is_a_file_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.txt"
    path.write_text("abcdefgh" * 1000)
    monkeypatch.setattr(memory, "available", lambda device="cpu": 100_000)
    with pytest.raises(MemoryBudgetError, match=re.escape(f"data set 'text' of '{path}' needs an estimated 375.0 KiB")):
        DATA.build(f"text:{path}").load()
    for place, said in (("/dev/zero", "not a file"), (str(tmp_path), "not a file"), ("~nobody-at-all/x", "such user")):
        with pytest.raises(InputError, match=said):
            DATA.build(f"text:{place}").load()


SIZE = ProblemSize(parameters=1000, samples=50)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("sharpness:k=1001", InputError, "k=1001; expected at most 1,000, the number of parameters"),
        ("rds_sharpness:batch=51", InputError, "batch=51; expected at most 50, the number of samples"),
        ("sharpness_dimension:batch=51", InputError, "batch=51; expected at most 50"),
        ("generalized_sharpness:restarts=1000000000000", MemoryBudgetError, "1,000,000,000,000 restarts needs"),
        ("worst_case_sharpness:restarts=1000000000000", MemoryBudgetError, "1,000,000,000,000 restarts needs"),
        ("persistent_homology:iterates=100000000", MemoryBudgetError, "100,000,000 iterates needs"),
        ("quadratic_model:steps=100000000000000", MemoryBudgetError, "100,000,000,000,000 steps needs"),
    ],
)
def test_measures_say_what_does_not_fit_a_problem(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        check_measures([MEASURES.build("loss"), MEASURES.build(spec)], SIZE)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sharpness:k=1000000", "k=1,000,000 needs an estimated 7.3 TiB"),
        ("hessian_trace:num_matvecs=3000000", "3,000,000 products needs an estimated 7.3 TiB"),
        ("hessian_frobenius:num_matvecs=3000000", "3,000,000 products needs an estimated 7.3 TiB"),
        ("spectrum:steps=1000000", "1,000,000 steps needs an estimated 3.6 TiB"),
        ("sharpness_dimension:methods=exact", "by the method exact needs an estimated 7.3 TiB"),
        ("sharpness_dimension:steps=1000000", "1,000,000 steps needs an estimated 7.3 TiB"),
    ],
)
def test_measures_say_what_a_large_network_would_take(spec: str, said: str) -> None:
    with pytest.raises(MemoryBudgetError, match=said):
        check_measures([MEASURES.build(spec)], ProblemSize(parameters=10**6))


def test_usual_measures_fit_a_small_problem_and_one_whose_samples_are_not_known() -> None:
    everything = [MEASURES.build(name) for name in MEASURES]
    check_measures(everything, ProblemSize(parameters=50_000, samples=10))
    check_measures([MEASURES.build("rds_sharpness:batch=8")], ProblemSize(parameters=100))
