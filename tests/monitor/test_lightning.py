"""The callback for Lightning with the library itself: the loss of ``training_step`` on the trainer's own data."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es
from edgescope.errors import EdgescopeWarning, InputError

pytest.importorskip("lightning")
import lightning as L
import torchmetrics
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger

from edgescope.monitor.lightning import EdgescopeCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # those of Lightning about its trainer
X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
MEASURES = ["loss", "gradient_norm", "ratio"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


class Classifier(L.LightningModule):
    """A small network that logs, counts and collects in ``training_step``."""

    def __init__(self, lr: float = 0.1, schedule: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
        self.accuracy = torchmetrics.MeanMetric()
        self.losses: list[Tensor] = []
        self.lr, self.schedule, self.batches = lr, schedule, 0

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.batches += 1
        self.losses.append(loss.detach())
        self.accuracy(loss)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr)
        if not self.schedule:
            return optimizer
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
        both = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [2])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": both, "interval": "step"}}


class Silent(Classifier):
    """Without ``self.log``, which torch cannot always compile."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


class Alternating(Classifier):
    """Two optimizers under manual optimization, each with a step on every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
        self.batches += 1

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.layers[i].parameters(), lr=0.1) for i in (0, 2)]


class TwoLosses(Alternating):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        for scale, optimizer in enumerate(self.optimizers(), 1):  # type: ignore[arg-type]
            optimizer.zero_grad()
            self.manual_backward(scale * self.loss(batch))
            optimizer.step()


def fit(
    module: Any, *callbacks: Any, epochs: int = 2, batch: int = 16, ckpt_path: Any = None, **options: Any
) -> L.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "log_every_n_steps": 1,
    }
    trainer = L.Trainer(max_epochs=epochs, callbacks=list(callbacks), **(settings | options))
    loader = DataLoader(TensorDataset(X, Y), batch_size=batch, shuffle=True, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer


def attached(**options: Any) -> EdgescopeCallback:
    return EdgescopeCallback(**({"every": 2, "measures": MEASURES, "path": "kept", "threads": 1} | options))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_the_loss_is_that_of_training_step_on_the_trainers_data() -> None:
    callback, module = attached(), Classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("error", EdgescopeWarning)
        fit(module, callback)
    monitor = callback.monitor
    assert monitor is not None
    assert monitor.steps == 8
    assert "all 64 samples that the DataLoader goes through" in monitor.description
    assert monitor.value("loss") == pytest.approx(float(F.cross_entropy(module(X), Y).detach()), rel=1e-5)
    assert monitor.table()["step"].unique().sort().to_list() == [0, 2, 4, 6, 8]


def test_a_part_of_the_data_is_drawn() -> None:
    callback = attached(samples=24)
    fit(Classifier(), callback)
    assert "24 of the 64 samples" in callback.monitor.description  # type: ignore[union-attr]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 2},
    "bfloat16": {"precision": "bf16-mixed"},
    "clipped": {"gradient_clip_val": 0.05},
    "scheduled": {"module": lambda: Classifier(schedule=True)},
    "manual": {"module": Alternating},
    "frozen": {"module": lambda: frozen(Classifier())},
    "compiled": {"module": lambda: torch.compile(Silent(), backend="eager")},
}


def frozen(module: Classifier) -> Classifier:
    module.layers[0].requires_grad_(False)
    return module


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_bit_for_bit(case: str) -> None:
    options = dict(CASES[case])
    make = options.pop("module", Classifier)
    plain, measured, callback = make(), make(), attached()
    before = fit(plain, **options)
    after = fit(measured, callback, **options)
    assert torch.equal(weights(plain), weights(measured))
    own, other = (getattr(module, "_orig_mod", module) for module in (plain, measured))
    assert own.batches == other.batches
    assert len(own.losses) == len(other.losses)
    assert torch.equal(own.accuracy.compute().nan_to_num(), other.accuracy.compute().nan_to_num())
    assert before.callback_metrics.get("train_loss") == after.callback_metrics.get("train_loss")
    assert before.global_step == after.global_step
    monitor = callback.monitor
    assert monitor is not None
    assert monitor.steps == {"accumulated": 4}.get(case, 8)
    assert monitor.value("ratio") is not None
    trained = [p for p in measured.parameters() if p.requires_grad]
    assert monitor.objective.size == sum(p.numel() for p in trained)


def test_values_are_logged_on_the_axis_of_the_trainer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = CSVLogger(tmp_path)
    callback = attached()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        trainer = fit(Classifier(), callback, logger=logger)
    verdict = f"Edgescope: {callback.monitor.verdict()}"  # type: ignore[union-attr]
    assert [record.message for record in caplog.records].count(verdict) == 1
    with open(Path(logger.log_dir) / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    logged = {int(row["step"]): float(row["edgescope/ratio"]) for row in rows if row["edgescope/ratio"]}
    measured = callback.monitor.table().filter(measure="ratio")  # type: ignore[union-attr]
    assert logged == pytest.approx(dict(measured.select("step", "value").rows()))
    assert [int(row["step"]) for row in rows if row["train_loss"]] == list(range(8))
    assert float(trainer.callback_metrics["edgescope/ratio"]) == pytest.approx(logged[8], rel=1e-6)


def test_two_optimizers_share_the_axis_of_batches(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    callback = attached()
    trainer = fit(Alternating(), callback, logger=logger)
    assert trainer.global_step == 16
    assert callback.monitor.steps == 8  # type: ignore[union-attr]
    with open(Path(logger.log_dir) / "metrics.csv", encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["edgescope/ratio"]]
    assert steps == [0, 2, 4, 6, 8]


def test_other_callbacks_can_watch_a_figure() -> None:
    stops = EarlyStopping("edgescope/ratio", mode="max", stopping_threshold=-1.0, check_on_train_epoch_end=True)
    trainer = fit(Classifier(), attached(), stops, epochs=5)
    assert trainer.global_step == 4  # every ratio is above -1, so that the first epoch is the last


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    whole = attached(out=tmp_path / "whole")
    fit(Classifier(schedule=True), whole, epochs=4)
    first = attached(out=tmp_path / "parts")
    trainer = fit(Classifier(schedule=True), first, epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = attached(out=tmp_path / "parts")
    trainer = fit(Classifier(schedule=True), second, epochs=4, ckpt_path=tmp_path / "half.ckpt")
    assert trainer.global_step == second.monitor.steps == 16  # type: ignore[union-attr]
    with es.Record.open(tmp_path / "whole") as one, es.Record.open(tmp_path / "parts") as other:
        assert one.series("loss", "train")[0].tolist() == other.series("loss", "train")[0].tolist()
        assert other.status == "finished"
        assert "resumed" in other.events()["kind"].to_list()


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")], ids=str
)
def test_an_end_by_an_error_is_recorded(error: type[BaseException], status: str, tmp_path: Path) -> None:
    class Stops(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 3:
                raise error

    with pytest.raises((error, SystemExit)):
        fit(Classifier(), attached(out=tmp_path / "run"), Stops())
    with es.Record.open(tmp_path / "run") as record:
        assert record.status == status
        assert record.last_step == 2


def test_what_cannot_be_measured_is_said_and_training_goes_on() -> None:
    plain, measured, callback = TwoLosses(), TwoLosses(), attached()
    fit(plain)
    with pytest.warns(EdgescopeWarning, match="nothing is measured of this training: training_step has 2 different"):
        fit(measured, callback)
    assert callback.monitor is None
    assert torch.equal(weights(plain), weights(measured))
    with pytest.raises(InputError, match="2 different losses"):
        fit(TwoLosses(), attached(on_error="raise"))
    chosen = attached(loss_fn=lambda module, batch: module.loss(batch))
    fit(TwoLosses(), chosen)
    assert chosen.monitor.steps == 8  # type: ignore[union-attr]


def test_a_step_inside_of_training_step_is_never_taken_twice() -> None:
    class Hidden(Alternating):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.trainer.optimizers[0]
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    plain, measured = Hidden(), Hidden()
    fit(plain)
    with pytest.warns(EdgescopeWarning, match="calls the step of SGD itself"):
        fit(measured, attached())
    assert torch.equal(weights(plain), weights(measured))


def test_training_stops_where_it_diverges() -> None:
    callback = attached(stop_on="diverging", every=1)
    trainer = fit(Classifier(lr=1e38), callback, epochs=50)
    assert trainer.global_step < 20
    events = callback.monitor.table()  # type: ignore[union-attr]
    assert events.height


def test_the_batch_of_a_step_is_known() -> None:
    callback = attached(measures=["loss", "headroom"])
    fit(Classifier(), callback, accumulate_grad_batches=2)
    parts = callback.monitor.table().filter(measure="headroom", step=4)["part"].to_list()  # type: ignore[union-attr]
    assert any("batch" in part for part in parts), parts


def test_options_are_checked_before_training() -> None:
    for options, words in (
        ({"evry": 3}, "unknown option evry= of EdgescopeCallback"),
        ({"samples": 0}, "samples"),
        ({"stop_on": "diverged"}, "unknown kind of event"),
        ({"watch": lambda module: None, "data": [X]}, "both watch= and data="),
    ):
        with pytest.raises((InputError, ValueError), match=words):
            EdgescopeCallback(**options)  # type: ignore[arg-type]
