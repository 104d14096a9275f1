"""A run that is asked for more steps later equals, bit for bit in its record, one asked for all of them at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from warm_process import WarmProcess

from edgescope.cli import main
from edgescope.errors import InputError, RecordError
from edgescope.models import MODELS, ModelConfig
from edgescope.store import Record
from edgescope.store.checkpoint import checkpoint_files
from edgescope.sweep import grid, run
from edgescope.training import RunConfig, train


@dataclasses.dataclass(frozen=True)
class MovingStatistics(ModelConfig):
    """A network with running statistics and dropout, whose state is more than its parameters."""

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        layers = (nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, outputs))
        return nn.Sequential(nn.Flatten(), *layers)


MODELS.add("moving-statistics", MovingStatistics)

SPECTRUM = "spectrum:probes=1,steps=8@end"
SMALL = RunConfig(
    data="digits:train=40,test=20",
    model="mlp:widths=5",
    lr=0.1,
    steps=26,
    every=4,
    measures=("loss", "accuracy", "sharpness:k=2", "ratio", "directional_smoothness", "norms@end", SPECTRUM),
    checkpoint_every=7,
    threads=1,
    path="kept",
)


Facts = tuple[str, str, int]


def facts(folder: Path) -> Facts:
    with Record.open(folder) as record:
        return record.fingerprint(), record.state, record.info["steps"]


def small(**changes: Any) -> RunConfig:
    return dataclasses.replace(SMALL, **changes)


KINDS: dict[str, dict[str, Any]] = {
    "gradient descent": {},
    "momentum": {"optimizer": "sgd:momentum=0.9"},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "mini-batches": {"batch": 16},
    "running statistics and dropout": {"model": "moving-statistics", "batch": 16},
    "sam": {"optimizer": "sam:rho=0.05", "batch": 16, "measures": ("loss", "sharpness:k=2", "norms@end")},
    "gradient flow": {"optimizer": "gradient-flow", "measures": ("loss", "sharpness@3", SPECTRUM)},
    "double precision": {"dtype": "float64", "measures": ("loss", "sharpness@end", "gradient_norm@3")},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Facts]:
    """The facts of a run of a kind that is asked for all of its steps at once; each is trained once."""
    folder = tmp_path_factory.mktemp("undisturbed")

    def of(kind: str) -> Facts:
        if not (folder / kind).exists():
            train(small(**KINDS[kind]), folder / kind)
        return facts(folder / kind)

    return of


@pytest.mark.filterwarnings("ignore:dropout:edgescope.errors.EdgescopeWarning")
@pytest.mark.parametrize(
    ("kind", "ended"),  # where nothing is measured otherwise, and where something is
    [(kind, 13) for kind in KINDS] + [(kind, 8) for kind in ("gradient descent", "mini-batches", "gradient flow")],
)
def test_more_steps_are_the_same_as_all_at_once(
    kind: str, ended: int, undisturbed: Callable[[str], Facts], tmp_path: Path
) -> None:
    config = small(**KINDS[kind])
    for steps in (ended, ended + 3, config.steps):
        last = train(dataclasses.replace(config, steps=steps), tmp_path / "run", resume=steps > ended)
        assert (last.status, last.steps) == ("finished", steps)
    assert facts(tmp_path / "run") == undisturbed(kind)
    with Record.open(tmp_path / "run") as record:
        assert record.events().filter(kind="resumed")["step"].to_list() == [ended, ended + 3]
        assert record.config == config.as_dict()


@pytest.mark.parametrize(
    "ending",
    [
        {"stop_loss": 0.43, "lr": 0.5},
        {"stop_accuracy": 0.3, "lr": 0.5},
        {"stop_loss": 0.43, "lr": 0.5, "batch": 16},
        {"lr": 1e3},
        {"lr": 1e3, "batch": 16},
    ],
)
def test_a_run_that_stopped_or_diverged_stays_as_it_ended(ending: dict[str, Any], tmp_path: Path) -> None:
    whole = train(small(steps=60, **ending), tmp_path / "whole")
    assert whole.steps < 60
    for less in {whole.steps, whole.steps + 2}:
        folder = tmp_path / str(less)
        train(small(steps=less, **ending), folder)
        assert train(small(steps=60, **ending), folder, resume=True).steps == whole.steps
        assert facts(folder) == facts(tmp_path / "whole")


def test_an_interrupted_run_can_be_asked_for_more_too(undisturbed: Callable[[str], Facts], tmp_path: Path) -> None:

    def press(share: float, words: str) -> None:
        if words.startswith("step 5,"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small(steps=12), tmp_path / "run", progress=press)
    train(SMALL, tmp_path / "run", resume=True)
    assert facts(tmp_path / "run") == undisturbed("gradient descent")


KILLED = """
import os, sys
from test_extended_runs import SMALL
from edgescope.training import train
train(SMALL, sys.argv[1], progress=lambda share, words: words.startswith("step 15,") and os._exit(9), resume=True)
"""


def test_an_extension_that_is_killed_goes_on(
    undisturbed: Callable[[str], Facts], tmp_path: Path, users_python: WarmProcess
) -> None:
    train(small(steps=13), tmp_path / "run")
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    users_python.begin("file", str(tmp_path), str(program), str(tmp_path / "run"))
    assert users_python.code() == 9
    train(SMALL, tmp_path / "run", resume=True)
    assert facts(tmp_path / "run") == undisturbed("gradient descent")


@pytest.mark.parametrize("left", [0, 1])
def test_without_its_last_checkpoint_it_goes_on_from_the_one_before(
    left: int, undisturbed: Callable[[str], Facts], tmp_path: Path
) -> None:
    train(small(steps=13), tmp_path / "run")
    for path in checkpoint_files(tmp_path / "run")[: 1 if left else None]:
        path.unlink()
    assert len(checkpoint_files(tmp_path / "run")) == left
    train(SMALL, tmp_path / "run", resume=True)
    assert facts(tmp_path / "run") == undisturbed("gradient descent")


def test_what_is_refused(tmp_path: Path) -> None:
    train(small(steps=13), tmp_path / "run")
    before = facts(tmp_path / "run")
    for changes, words in (
        ({"steps": 12}, "has steps = 13, not 12"),
        ({"steps": 20, "lr": 0.2}, r"has lr = 0\.1, not 0\.2"),
        ({"steps": 20, "every": 5}, "has every = 4, not 5"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            train(small(**changes), tmp_path / "run", resume=True)
        assert "\n" not in str(caught.value)
    assert facts(tmp_path / "run") == before
    runs = grid(small(steps=5, measures=("loss",)), lr=[0.1, 0.2])
    run(runs, tmp_path / "grid", batched="always")
    with pytest.raises(RecordError, match="trained in one batch"):
        train(small(measures=("loss",)), tmp_path / "grid" / "runs" / "lr0.1", resume=True)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(steps: int, out: str, *more: str) -> int:
        words = ["train", "--data", "digits:train=20,test=10", "--model", "mlp:widths=4", "--threads", "1"]
        words += ["--path", "kept", "--measures", "loss", "norms@end", "--steps", str(steps)]
        return main([*words, "--out", str(tmp_path / out), *more])

    assert call(25, "whole") == 0
    assert call(11, "run") == 0
    assert call(25, "run", "--resume") == 0
    assert "finished after 25 steps" in capsys.readouterr().out
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")
    assert call(24, "run", "--resume") == 2
    assert "has steps = 25, not 24" in capsys.readouterr().err
