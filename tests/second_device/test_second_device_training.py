"""Training on a device that is not the CPU: monitors, every measure and optimizer, checkpoints, runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from second_device import SecondTensor, second_device
from second_device_problem import CROSS_ENTROPY, assert_same, data, network
from torch import Tensor

import edgescope as es
from edgescope.cli import main
from edgescope.optim import rule_for, update_jacobian
from edgescope.store import Record, latest_checkpoint, pack_state, rng_state, save_checkpoint, set_rng_state
from edgescope.store import unpack_state as unpacked
from edgescope.sweep import run
from edgescope.training import RunConfig, train

SHORTENED = {
    "settled_norms": "steps=2",
    "quadratic_model": "steps=2",
    "spectrum": "probes=2,steps=6",
    "sharpness_dimension": "steps=6",
}
EVERY_MEASURE = [
    *(name for name in es.MEASURES if name not in ("time", "persistent_homology", *SHORTENED)),
    *(f"{name}:{options}" for name, options in SHORTENED.items()),
]
OF_THE_RULE = [
    "threshold",
    "sharpness",
    "effective_sharpness",
    "rds_sharpness",
    "step_ratio",
    "quadratic_model:steps=2",
]
SMALL = RunConfig(
    data="digits:train=30,test=10",
    model="mlp:widths=4",
    optimizer="sgd:momentum=0.9",
    batch=10,
    steps=4,
    every=2,
    checkpoint_every=1,
    measures=("loss", "sharpness", "oscillation"),
    threads=1,
    path="kept",
)
pytestmark = pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")  # what a threshold means


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


@pytest.mark.parametrize("optimizer", [(), ("--optimizer", "adam", "--lr", "0.01")], ids=["alone", "optimizer"])
def test_a_checkpoint_is_inspected_on_the_device_as_on_the_cpu(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, optimizer: tuple[str, ...]
) -> None:
    (tmp_path / "inspected_here.py").write_text(
        "from second_device_problem import CROSS_ENTROPY, data, network\n"
        "def parts():\n    return network(), CROSS_ENTROPY, data()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = network()
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    CROSS_ENTROPY(model, data()).backward()
    adam.step()
    torch.save({"model": model.state_dict(), "optimizer": adam.state_dict()}, tmp_path / "a.pt")

    def found(*more: str) -> dict[str, Any]:
        command = ["inspect", str(tmp_path / "a.pt"), "--objective", "inspected_here:parts", "--json", "--k", "2"]
        assert main([*command, *optimizer, *more]) == 0
        return json.loads(capsys.readouterr().out)

    here, there = found("--device", "cpu"), found("--device", str(device))
    for name in ("loss", "gradient_norm"):
        assert there[name] == pytest.approx(here[name], rel=1e-5)
    for end in ("largest", "smallest"):
        for one, other in zip(there[end], here[end], strict=True):
            assert one["value"] == pytest.approx(other["value"], rel=1e-3, abs=1e-3 * here["largest"][0]["value"])
    assert (here["stability"] and here["stability"]["verdict"]) == (
        there["stability"] and there["stability"]["verdict"]
    )


class Loop:
    """A network in training on one device; the seed gives both devices' generators the same numbers."""

    def __init__(self, spec: str, where: torch.device | str) -> None:
        self.model = network().to(where)
        self.data = tuple(tensor.to(where) for tensor in data())
        chosen = [p for p in self.model.parameters() if p.ndim == 2 or spec != "muon"]
        self.optimizer = es.OPTIMIZERS.build(spec).build(chosen, lr=0.01)
        self.objective = es.Objective(self.model, CROSS_ENTROPY, self.data, path="rebuilt")
        torch.manual_seed(5)

    def step(self) -> None:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = CROSS_ENTROPY(self.model, self.data)
            loss.backward()
            return loss

        self.optimizer.step(closure)

    def measured(self, measures: list[str], steps: int) -> dict[Any, float | None]:
        """Readings after the last of these steps."""
        with es.Monitor(
            self.objective,
            self.optimizer,
            every=1,
            measures=measures,
            evaluations={"test": self.objective},
            on_error="raise",
        ) as watch:
            for _ in range(steps):
                self.step()
                watch.step()
            table = watch.table().select("step", "measure", "part", "value")
            return {(step, measure, part): value for step, measure, part, value in table.iter_rows()}

    def parameters(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).cpu()


WITHOUT_THRESHOLD = ("sam", "gradient-flow", "lion")
"""Optimizers whose rule gives no threshold of all parameters at once."""


def assert_readings(found: dict[Any, float | None], wanted: dict[Any, float | None], tolerance: float = 1e-9) -> None:
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        same = found[key] == (value if value is None else pytest.approx(value, rel=tolerance, abs=tolerance / 1000))
        assert same, (key, found[key], value)


def test_every_measure_is_the_same(device: torch.device) -> None:
    found, wanted = (Loop("sgd:momentum=0.9", where).measured(EVERY_MEASURE, 1) for where in (device, "cpu"))
    assert {key[1] for key in wanted} == {name.split(":")[0] for name in EVERY_MEASURE}
    assert_readings(found, wanted)


@pytest.mark.parametrize("spec", [name for name in es.OPTIMIZERS if name not in WITHOUT_THRESHOLD])
def test_every_update_rule_is_the_same(spec: str, device: torch.device) -> None:
    found = []
    for where in (device, "cpu"):
        loop = Loop(spec, where)
        for _ in range(2):
            loop.step()
        rule = rule_for(loop.optimizer, [p for group in loop.optimizer.param_groups for p in group["params"]])
        numbers = [torch.tensor([rule.threshold().value]), loop.parameters()]
        if metric := rule.metric():
            numbers.append(
                metric.inverse_root(torch.ones(metric.size, 1, dtype=torch.float64, device=where)).cpu()[:, 0]
            )
        if spec not in ("langevin", "muon"):  # random, and not of all parameters: there is no Jacobian
            jacobian = update_jacobian(rule, loop.objective)
            numbers.append((jacobian @ torch.ones(jacobian.size, dtype=torch.float64, device=where)).cpu())
        found.append(torch.cat(numbers))
    assert_same(*found)


@pytest.mark.parametrize("spec", WITHOUT_THRESHOLD)
def test_optimizers_without_a_threshold_are_the_same(spec: str, device: torch.device) -> None:
    here, there = Loop(spec, "cpu"), Loop(spec, device)
    assert_readings(there.measured(["loss", "gradient_norm"], 2), here.measured(["loss", "gradient_norm"], 2))
    assert torch.equal(there.parameters(), here.parameters())


def test_a_monitor_leaves_training_as_it_was(device: torch.device) -> None:
    watched, alone = Loop("langevin:temperature=0.001", device), Loop("langevin:temperature=0.001", device)
    watched.measured(["sharpness", "hessian_trace"], 2)
    torch.manual_seed(5)
    for _ in range(2):
        alone.step()
    assert torch.equal(watched.parameters(), alone.parameters())


def test_a_checkpoint_continues_bit_for_bit(device: torch.device, tmp_path: Path) -> None:
    whole, cut = (Loop("langevin:temperature=0.001", device) for _ in range(2))
    for _ in range(4):
        whole.step()
    torch.manual_seed(5)
    for _ in range(2):
        cut.step()
    state = {"model": cut.model.state_dict(), "optimizer": cut.optimizer.state_dict(), "rng": rng_state()}
    packed = [pack_state(name, one) for name, one in state.items()]
    save_checkpoint(
        tmp_path,
        2,
        {name: tensor for tensors, _ in packed for name, tensor in tensors.items()},
        {name: one for _, meta in packed for name, one in meta.items()},
    )
    resumed = Loop("langevin:temperature=0.001", device)
    kept = latest_checkpoint(tmp_path)
    assert kept is not None
    resumed.model.load_state_dict(unpacked("model", kept.tensors, kept.meta))
    resumed.optimizer.load_state_dict(unpacked("optimizer", kept.tensors, kept.meta))
    set_rng_state(unpacked("rng", kept.tensors, kept.meta))
    for _ in range(2):
        resumed.step()
    assert torch.equal(resumed.parameters(), whole.parameters())


def rows(folder: Path) -> list[Any]:
    with Record.open(folder) as record:
        return record.table().select("step", "measure", "part", "value").rows()


def stopped_at_2(share: float, words: str = "", left: float | None = None, /) -> None:
    if share >= 0.5:
        raise KeyboardInterrupt


def test_a_run_is_the_same_and_is_continued_on_another_device(device: torch.device, tmp_path: Path) -> None:
    train(SMALL, tmp_path / "here")
    there = replace(SMALL, device=device.type)
    train(there, tmp_path / "there")
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path / "moved", stopped_at_2)
    train(there, tmp_path / "moved", resume=True)
    assert rows(tmp_path / "moved") == rows(tmp_path / "here")
    with Record.open(tmp_path / "there") as record:
        assert record.info["device"].startswith(device.type)


def test_runs_are_batched_there(device: torch.device, tmp_path: Path) -> None:
    found = []
    for where in (device.type, "cpu"):
        base = replace(SMALL, measures=("loss", "sharpness@end"), optimizer="sgd", device=where)
        run({f"lr{lr:g}": replace(base, lr=lr) for lr in (0.01, 0.02)}, tmp_path / where, batched="always")
        found.append([rows(tmp_path / where / "runs" / name) for name in ("lr0.01", "lr0.02")])
    assert found[0] == found[1]


def test_the_model_of_a_run_is_there(device: torch.device) -> None:
    assert all(isinstance(p, SecondTensor) for p in Loop("sgd", device).model.parameters())
