"""Learning-rate schedules of training runs, against schedulers of torch and plain loops, and through a resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small
from torch.optim import lr_scheduler as torch_schedulers

from edgescope.errors import InputError, UnknownNameError
from edgescope.store import Record
from edgescope.training import RunConfig, train
from edgescope.training.batched_training import kind_of
from edgescope.training.schedules import SCHEDULES
from edgescope.training.to_threshold import flow_of

TOTAL = 20


def warmed(optimizer: Any, after: Any) -> Any:
    rise = torch_schedulers.LinearLR(optimizer, start_factor=1 / 5, total_iters=4)
    return torch_schedulers.SequentialLR(optimizer, [rise, after], milestones=[5])


OF_TORCH = {
    "constant": lambda o: torch_schedulers.ConstantLR(o, factor=1.0),
    "cosine": lambda o: torch_schedulers.CosineAnnealingLR(o, T_max=TOTAL),
    "cosine:final=0.1": lambda o: torch_schedulers.CosineAnnealingLR(o, T_max=TOTAL, eta_min=0.03),
    "linear": lambda o: torch_schedulers.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=TOTAL),
    "warmup:steps=5": lambda o: warmed(o, torch_schedulers.ConstantLR(o, factor=1.0)),
    "warmup:5,then=cosine": lambda o: warmed(o, torch_schedulers.CosineAnnealingLR(o, T_max=TOTAL - 5)),
    "warmup:5,then=linear,final=0.5": lambda o: warmed(
        o, torch_schedulers.LinearLR(o, start_factor=1.0, end_factor=0.5, total_iters=TOTAL - 5)
    ),
}


@pytest.mark.filterwarnings("ignore:.*epoch parameter:UserWarning")
@pytest.mark.parametrize("spec", OF_TORCH)
def test_rates_are_those_of_torch(spec: str) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, schedule = OF_TORCH[spec](optimizer), SCHEDULES.build(spec)
    for step in range(TOTAL + 1):
        expected = optimizer.param_groups[0]["lr"]
        assert 0.3 * schedule.factor(step, TOTAL) == pytest.approx(expected, rel=1e-9, abs=1e-12), step
        optimizer.step()
        scheduler.step()


SCHEDULED: dict[str, Any] = {
    "schedule": "warmup:steps=6,then=cosine",
    "steps": TOTAL,
    "every": 1,
    "checkpoint_every": 7,
    "measures": ("loss", "learning_rate", "sharpness@5", "threshold", "ratio", "norms@end"),
}
SELDOM: dict[str, Any] = {"every": 3}
"""Where every step has its effect on the weights that are measured later."""
KINDS: dict[str, dict[str, Any]] = {
    "gradient descent": {},
    "mini-batches": {"batch": 16, "optimizer": "sgd:momentum=0.9"},
    "pair": {"optimizer": "muon+adamw:lr=0.002"},
    "decay": {"decay_schedule": "knots:steps=0x5x13,decays=0x0.1x0.01", "schedule": "constant"},
    "sam": {"optimizer": "sam:rho=0.05,base=sgd:momentum=0.9", "batch": 16},
}


def facts(folder: Path) -> tuple[str, str, int]:
    with Record.open(folder) as record:
        return record.fingerprint(), record.state, record.info["steps"]


@pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(kind: str, tmp_path: Path) -> None:
    config = small(**SCHEDULED | SELDOM | KINDS[kind])
    train(config, tmp_path / "whole")

    def press(share: float, words: str) -> None:
        if words.startswith("step 11,"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", progress=press)
    train(config, tmp_path / "run", resume=True)
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")


def test_the_learning_rate_of_every_reading_is_that_of_the_next_step(tmp_path: Path) -> None:
    config = small(**SCHEDULED)
    train(config, tmp_path)
    with Record.open(tmp_path) as record:
        steps, rates = record.series("learning_rate")
        assert record.config["schedule"] == config.schedule
    schedule = SCHEDULES.build(config.schedule)
    assert rates.tolist() == [config.lr * schedule.factor(int(step), TOTAL) for step in steps]
    assert (rates.max(), rates[-1]) == (config.lr, 0.0)


def test_the_decay_of_every_step_is_that_of_its_schedule(tmp_path: Path) -> None:
    plain = {"schedule": "constant", "measures": ("loss", "norms", "threshold")}
    runs = {
        "option": {"optimizer": "sgd:weight_decay=0.3"},
        "one knot": {"optimizer": "sgd", "decay_schedule": "knots:steps=0,decays=0.3"},
        "two knots": {"optimizer": "sgd:weight_decay=7", "decay_schedule": "knots:steps=0x4,decays=0.3x0"},
    }
    norms = {}
    for name, options in runs.items():
        train(small(**SCHEDULED | plain | options), tmp_path / name)
        with Record.open(tmp_path / name) as record:
            assert ("decay_schedule" in record.config) == (name != "option")
            norms[name] = record.series("norms", "l2")[1]
    assert norms["one knot"].tolist() == norms["option"].tolist()
    assert norms["two knots"][:5].tolist() == norms["option"][:5].tolist()
    assert (norms["two knots"][5:] > norms["option"][5:]).all()


def test_what_can_be_given_more_steps(tmp_path: Path) -> None:
    rising = small(**SCHEDULED | SELDOM | {"schedule": "warmup:steps=6"})
    train(rising, tmp_path / "whole")
    train(dataclasses.replace(rising, steps=4), tmp_path / "run")
    train(rising, tmp_path / "run", resume=True)
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")
    falling = small(**SCHEDULED | SELDOM)
    train(dataclasses.replace(falling, steps=4), tmp_path / "falling")
    with pytest.raises(InputError, match=r"schedule=warmup:steps=6,then=cosine cannot be given more steps"):
        train(falling, tmp_path / "falling", resume=True)


def test_configurations() -> None:
    for schedule, words in {
        "cosine:final=2": "final=2",
        "warmup:steps=0": "steps=0",
        "warmup:then=nothing": "nothing",
        "": "schedule=''",
    }.items():
        with pytest.raises(InputError, match=words):
            RunConfig(schedule=schedule)
    with pytest.raises(UnknownNameError, match="cosine"):
        RunConfig(schedule="cosin")
    with pytest.raises(InputError, match="gradient flow with schedule=cosine"):
        RunConfig(schedule="cosine", optimizer="gradient-flow")
    assert "schedule" not in RunConfig().as_dict()  # records of earlier versions can be continued
    with pytest.raises(InputError, match=r"gradient flow with decay_schedule=knots"):
        RunConfig(decay_schedule="knots:steps=0,decays=1", optimizer="gradient-flow")
    with pytest.raises(InputError, match="decay schedule 'knots' without option 'decays'"):
        RunConfig(decay_schedule="knots:steps=0")
    with pytest.raises(InputError, match=r"steps=\(5,\); expected steps that rise from 0"):
        RunConfig(decay_schedule="knots:steps=5,decays=1")
    assert "decay_schedule" not in RunConfig().as_dict()
    light = small(measures=("loss", "norms@end"), stop_loss=0.1)
    assert kind_of(light) is not None
    assert kind_of(dataclasses.replace(light, schedule="cosine")) is None
    assert kind_of(dataclasses.replace(light, decay_schedule="knots:steps=0,decays=1")) is None
    assert flow_of(dataclasses.replace(light, schedule="cosine", clip=1.0)).schedule == "constant"
