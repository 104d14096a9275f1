"""``edgescope sweep`` of a function that returns a LightningModule with its data, or a Hugging Face Trainer."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from said import Run
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es
from edgescope.errors import InputError
from edgescope.store import Record
from edgescope.sweep.trainer_task import made_trainer

pytest.importorskip("lightning")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.filterwarnings("ignore")

OWN = """
import signal
import lightning as L, torch
from pathlib import Path
from torch.utils.data import DataLoader, TensorDataset

X = torch.linspace(-1, 1, 16)[:, None]
Y = 2 * X
EVERYTHING = DataLoader(TensorDataset(X, Y), batch_size=16)
HALF = DataLoader(TensorDataset(X[:8], Y[:8]), batch_size=8)

class Line(L.LightningModule):
    def __init__(self, lr, armed=False):
        super().__init__()
        self.lr, self.armed, self.line = lr, armed, torch.nn.Linear(1, 1)

    def training_step(self, batch, number):
        return torch.nn.functional.mse_loss(self.line(batch[0]), batch[1])

    def on_train_batch_end(self, *_):
        if self.armed and Path("armed").exists():
            Path("armed").unlink()
            signal.raise_signal(signal.SIGINT)

    def validation_step(self, batch, number):
        self.log("val_loss", torch.nn.functional.mse_loss(self.line(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

STEPS = {"max_steps": 4, "accelerator": "cpu"}

def line(lr):
    return {"module": Line(lr), "data": EVERYTHING, "test": HALF, "trainer": STEPS}

def deaf(lr):
    return {"module": Line(0.1), "data": EVERYTHING, "trainer": STEPS}

def armed(lr):
    return {"module": Line(lr, armed=True), "data": EVERYTHING, "trainer": STEPS}

class Noisy(Line):
    def training_step(self, batch, number):
        return super().training_step(batch, number) * torch.rand(()).item()

def noisy(lr):
    return {"module": Noisy(lr), "data": EVERYTHING, "trainer": STEPS}

def falling(lr):
    class Falling(Line):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=3)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]
    return {"module": Falling(lr), "data": EVERYTHING, "trainer": STEPS}

def text(lr, seed):
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
    words = torch.arange(32).reshape(4, 8) % 9
    texts = [{"input_ids": line, "labels": line} for line in words]
    config = GPT2Config(vocab_size=9, n_positions=8, n_embd=4, n_layer=1, n_head=1, resid_pdrop=0, embd_pdrop=0,
                        attn_pdrop=0)
    args = TrainingArguments("unused", max_steps=2, learning_rate=lr, seed=seed, report_to="none", use_cpu=True)
    return Trainer(GPT2LMHeadModel(config), args, train_dataset=texts, eval_dataset=texts[:2])

def number(lr):
    return 3

def half(lr):
    return {"module": Line(lr)}

def wrong(lr):
    return torch.nn.Linear(1, 1), EVERYTHING

def trainer_made(lr):
    return {"module": Line(lr), "data": EVERYTHING, "trainer": L.Trainer(**STEPS, logger=False)}
"""


@pytest.fixture
def own(here: Path) -> str:
    (here / "own_trainers.py").write_text(OWN, encoding="utf-8")
    return "own_trainers"


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn: these are tests of what is run and printed."""
    monkeypatch.setattr("edgescope.cli.sweep_report.write_report", lambda out, **_: out / "report.html")
    monkeypatch.setattr("edgescope.cli.sweep_report.run_figures", lambda *_, **__: [])


def descent(lr: float, steps: int, seed: int = 0) -> tuple[list[float], float]:
    """Losses of the line before and after each step of gradient descent without any framework, and on its test data."""
    torch.manual_seed(seed)
    line = torch.nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 16)[:, None]
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(line(x), 2 * x)
        losses.append(float(loss))
        gradients = torch.autograd.grad(loss, list(line.parameters()))
        with torch.no_grad():
            for tensor, slope in zip(line.parameters(), gradients, strict=True):
                tensor -= lr * slope
    with torch.no_grad():
        losses.append(float(torch.nn.functional.mse_loss(line(x), 2 * x)))
        return losses, float(torch.nn.functional.mse_loss(line(x[:8]), 2 * x[:8]))


def test_a_lightning_module_at_several_rates_and_seeds(run: Run, own: str, here: Path) -> None:
    said = run("sweep", f"{own}:line", "--lr", "0.1,0.3", "--seeds", 2, "--jobs", 1, "--out", "rates")
    assert said.code == 0, said.err
    for name, lr, seed in (("lr0.1", 0.1, 0), ("lr0.3-seed1", 0.3, 1)):
        with Record.open(here / "rates" / "runs" / name) as record:
            losses, test = descent(lr, 4, seed)
            assert record.series("loss", "train")[1] == pytest.approx(losses, rel=1e-5)
            assert record.series("loss", "test")[1] == pytest.approx([test], rel=1e-5)
            assert record.status == "finished"
            # the loss is (w x - 2 x + b)^2 in the mean: its Hessian is diag(2 mean(x^2), 2)
            assert record.series("sharpness", "1")[1] == pytest.approx([2.0], rel=1e-5)
    assert "own_trainers:line in Lightning, optimizer SGD, 4 steps, seeds 0 to 1" in said.out
    assert "The test loss is the val_loss of the trainer." in said.out
    tests = {lr: (descent(lr, 4, 0)[1] + descent(lr, 4, 1)[1]) / 2 for lr in (0.1, 0.3)}
    assert f"at learning rate {min(tests, key=tests.__getitem__):g}" in said.out


def test_a_finished_sweep_is_extended_and_nothing_is_run_twice(run: Run, own: str, here: Path) -> None:
    given = ("sweep", f"{own}:line", "--jobs", 1, "--out", "rates")
    assert run(*given, "--lr", "0.1").code == 0
    first = (here / "rates" / "runs" / "lr0.1" / "record.sqlite").stat().st_mtime_ns
    assert run(*given, "--lr", "0.2", "--resume").code == 0
    assert sorted(path.name for path in (here / "rates" / "runs").iterdir()) == ["lr0.1", "lr0.2"]
    assert (here / "rates" / "runs" / "lr0.1" / "record.sqlite").stat().st_mtime_ns == first
    assert run(*given, "--lr", "0.2").refusal().startswith("edgescope: rates is not empty; try --resume")
    other = run("sweep", f"{own}:deaf", "--lr", "0.2", "--out", "rates", "--resume").refusal()
    assert "(function = own_trainers:line there, own_trainers:deaf here)" in other


def test_a_hugging_face_trainer(run: Run, own: str, here: Path) -> None:
    said = run("sweep", f"{own}:text", "--lr", "0.01", "--seed", 3, "--jobs", 1, "--out", "rates")
    assert said.code == 0, said.err
    assert "own_trainers:text in Transformers, optimizer AdamW, 2 steps, seed 3" in said.out
    trainer: Any = made_trainer(es.sweep.TrainerRun(f"{own}:text", 0.01, 3)).trainer  # type: ignore[attr-defined]
    trainer.args.output_dir = str(here / "again")
    trainer.train()
    expected = trainer.evaluate()["eval_loss"]
    with Record.open(here / "rates" / "runs" / "lr0.01") as record:
        assert record.series("loss", "test")[1] == pytest.approx([expected], rel=1e-6)
        assert list(record.series("loss", "train")[0]) == [0, 1, 2]
        assert record.info["optimizers"][0]["name"] == "AdamW"
    assert not list((here / "rates").rglob("checkpoint-*"))


def test_ctrl_c_and_continued(run: Run, own: str, here: Path) -> None:
    (here / "armed").touch()
    before = signal.getsignal(signal.SIGINT)
    given = ("sweep", f"{own}:armed", "--lr", "0.1,0.3", "--jobs", 1, "--out", "rates")
    said = run(*given)
    assert said.code == 130
    assert "--lr 0.1,0.3" in said.err
    assert signal.getsignal(signal.SIGINT) is before
    said = run(*given, "--resume")
    assert said.code == 0, said.err
    with Record.open(here / "rates" / "runs" / "lr0.1") as record:
        assert record.series("loss", "train")[1] == pytest.approx(descent(0.1, 4)[0], rel=1e-5)


def test_a_rate_that_never_reaches_the_optimizer_is_told(run: Run, own: str) -> None:
    said = run("sweep", f"{own}:deaf", "--lr", "0.1,0.3", "--jobs", 1)
    assert "all runs had the learning rate 0.1: the function does not give lr to its optimizer." in said.out


def test_training_that_cannot_be_measured_has_failed_with_the_reason(run: Run, own: str) -> None:
    said = run("sweep", f"{own}:noisy", "--lr", "0.1", "--jobs", 1)
    assert said.code == 1
    assert "run 'lr0.1' failed (nothing is measured of this training: " in said.err


def test_a_falling_rate_is_judged_where_it_was_large(own: str, here: Path) -> None:
    from edgescope.cli.sweep_report import regime_of_run

    task = es.sweep.trainer_tasks(f"{own}:falling", [0.95])[0]  # 2 / 2 is the edge, and the last rates are far below
    assert es.sweep.run_tasks([task], here / "one")[0].status == "finished"
    with Record.open(here / "one" / "runs" / "lr0.95") as record:
        assert record.series("ratio")[1][-1] < 0.1
        assert regime_of_run(record) == "not known"  # of two readings: the others are not looked at


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("number", "returned a int; expected a transformers.Trainer, (module, data)"),
        ("half", "returned a dict without 'data'"),
        ("wrong", "returned a module of type Linear; expected a lightning.LightningModule"),
        ("trainer_made", "returned a trainer of type Trainer; expected a dict of options"),
    ],
)
def test_what_is_no_trainer_is_refused_before_anything_runs(
    run: Run, own: str, here: Path, name: str, words: str
) -> None:
    assert words in run("sweep", f"{own}:{name}", "--lr", "0.1", "--out", "rates").refusal()
    assert not (here / "rates").exists()


def test_options_that_the_function_decides_are_refused(run: Run, own: str) -> None:
    assert "--batch for 'own_trainers:line'" in run("sweep", f"{own}:line", "--lr", "0.1", "--batch", 4).refusal()
    assert "without learning rates; expected --lr" in run("sweep", f"{own}:line").refusal()


def test_the_same_from_python_with_readings_of_ones_own(own: str, here: Path) -> None:
    tasks = es.sweep.trainer_tasks(f"{own}:line", [0.1], [4, 5], every=2, samples=8, measures=["loss"])
    assert [task.name for task in tasks] == ["lr0.1", "lr0.1-seed5"]
    es.sweep.run_tasks(tasks, here / "own")
    with Record.open(here / "own" / "runs" / "lr0.1-seed5") as record:
        assert list(record.series("loss", "train")[0]) == [0, 2, 4]
    with pytest.raises(InputError, match="without learning rates or seeds"):
        es.sweep.trainer_tasks(f"{own}:line", [])


def test_random_generators_are_left_as_they_were(own: str, here: Path) -> None:
    before = torch.get_rng_state()
    es.sweep.run_tasks(es.sweep.trainer_tasks(f"{own}:line", [0.1]), here / "own")
    assert torch.equal(torch.get_rng_state(), before)


def test_data_of_a_loader_are_shuffled_by_the_seed(own: str) -> None:
    drawn = []
    for _ in range(2):
        made_trainer(es.sweep.TrainerRun(f"{own}:line", 0.1, 7))
        loader = DataLoader(TensorDataset(torch.arange(20)), batch_size=20, shuffle=True)
        drawn.append(next(iter(loader))[0].tolist())
    assert drawn[0] == drawn[1]
