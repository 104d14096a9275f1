"""The callback for the Hugging Face Trainer with the library itself: the loss of ``compute_loss`` on its own data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import EdgescopeWarning

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from edgescope.monitor.transformers import FILE, EdgescopeCallback

pytestmark = pytest.mark.filterwarnings("ignore")
MEASURES = ["loss", "gradient_norm", "ratio"]
WORDS = 20


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def texts(padded: bool = True) -> list[dict[str, list[int]]]:
    """Texts of different lengths, of which the first words are no targets."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for i in range(32):
        tokens = torch.randint(1, WORDS, (8 - (i % 4 if padded else 0),), generator=generator).tolist()
        found.append({"input_ids": tokens, "labels": [-100] * (i % 3) + tokens[i % 3 :]})
    return found


def collate(items: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Texts padded to the longest."""
    length = max(len(item["input_ids"]) for item in items)

    def padded(key: str, filler: int) -> Tensor:
        return torch.tensor([item[key] + [filler] * (length - len(item[key])) for item in items])

    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", -100),
        "attention_mask": torch.tensor(
            [[1] * len(i["input_ids"]) + [0] * (length - len(i["input_ids"])) for i in items]
        ),
    }


def language_model(dropout: float = 0.0) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": WORDS, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    off = dict.fromkeys(["resid_pdrop", "embd_pdrop", "attn_pdrop"], dropout)
    return GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **sizes, **off))


def trainer_of(folder: Path, *callbacks: Any, model: Any = None, kind: Any = Trainer, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_steps": 8,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_steps": 4,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    args = TrainingArguments(output_dir=str(folder / "trainer"), **(settings | options))
    model = language_model() if model is None else model
    trainer = kind(model=model, args=args, train_dataset=texts(), data_collator=collate, callbacks=list(callbacks))
    trainer.callback_handler.callbacks[:] = [
        one for one in trainer.callback_handler.callbacks if type(one).__name__ != "PrinterCallback"
    ]
    return trainer


def attached(**options: Any) -> EdgescopeCallback:
    return EdgescopeCallback(**({"every": 2, "measures": MEASURES, "path": "kept", "threads": 1} | options))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": WORDS, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=2, max_position_embeddings=8, **sizes))


@pytest.mark.parametrize("model", [language_model, llama], ids=["GPT-2", "Llama"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_one_that_the_trainer_averages(model: Any, smoothing: float, tmp_path: Path) -> None:
    """Of all data in one step of four batches, which have other lengths and numbers of targets than those measured."""
    callback = attached(measures=["loss", "gradient_norm"])
    options = {"gradient_accumulation_steps": 4, "max_steps": 1, "logging_steps": 1, "max_grad_norm": 1e9}
    trainer = trainer_of(tmp_path, callback, model=model(), label_smoothing_factor=smoothing, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EdgescopeWarning)
        trainer.train()
    monitor = callback.monitor
    assert monitor is not None
    assert "all 32 samples that the DataLoader goes through" in monitor.description
    logged = next(entry for entry in trainer.state.log_history if "grad_norm" in entry)
    table = monitor.table().filter(step=0)
    measured = {name: table.filter(measure=name)["value"].item() for name in ("loss", "gradient_norm")}
    assert measured["loss"] == pytest.approx(logged["loss"], rel=1e-5)
    assert measured["gradient_norm"] == pytest.approx(logged["grad_norm"], rel=1e-5)


CASES: dict[str, dict[str, Any]] = {
    "accumulated": {"gradient_accumulation_steps": 2},
    "bfloat16, warm-up and cosine": {"bf16": True, "warmup_steps": 2, "lr_scheduler_type": "cosine"},
    "clipped": {"max_grad_norm": 0.01, "optim": "sgd"},
    "frozen": {"model": lambda: frozen(language_model())},
    "dropout": {"model": lambda: language_model(dropout=0.1)},
    "compiled": {"torch_compile": True, "torch_compile_backend": "eager", "model": lambda: TokenModel()},
}


def frozen(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    model.requires_grad_(False)
    for block in model.transformer.h:
        block.mlp.requires_grad_(True)
    return model


class TokenModel(nn.Module):
    """A model of the user's own, which is compiled in less time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(WORDS, 4), nn.Linear(4, WORDS)

    def forward(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.embedding(input_ids))
        return {"loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), "logits": logits}


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_bit_for_bit(case: str, tmp_path: Path) -> None:
    options = dict(CASES[case])
    make = options.pop("model", language_model)
    callback = attached()
    plain = trainer_of(tmp_path / "a", model=make(), max_steps=4, **options)
    plain.train()
    measured = trainer_of(tmp_path / "b", callback, model=make(), max_steps=4, **options)
    measured.train()
    assert torch.equal(weights(plain.model), weights(measured.model))
    monitor = callback.monitor
    assert monitor is not None
    assert monitor.steps == 4
    assert monitor.value("ratio") is not None
    assert monitor.objective.size == sum(p.numel() for p in measured.model.parameters() if p.requires_grad)
    own = [{k: v for k, v in entry.items() if "loss" in k} for entry in plain.state.log_history]
    other = [entry for entry in measured.state.log_history if not any(k.startswith("edgescope/") for k in entry)]
    assert own == [{k: v for k, v in entry.items() if "loss" in k} for entry in other]


def test_values_and_a_verdict_are_in_the_log_of_the_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = attached()
    trainer = trainer_of(tmp_path, callback)
    trainer.train()
    logged = {
        entry["step"]: entry["edgescope/ratio"] for entry in trainer.state.log_history if "edgescope/ratio" in entry
    }
    table = callback.monitor.table().filter(measure="ratio")  # type: ignore[union-attr]
    assert logged == dict(table.drop_nulls("value").select("step", "value").rows())
    assert sorted(logged) == [2, 4, 6, 8]
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [4, 8]
    verdict = str(callback.monitor.verdict())  # type: ignore[union-attr]
    assert "train_runtime" in trainer.state.log_history[-1]
    assert trainer.state.log_history[-2] == {"edgescope/verdict": verdict, "epoch": trainer.state.epoch, "step": 8}
    assert f"Edgescope: {verdict}" in capsys.readouterr().out


class Penalised(Trainer):
    """A loss of the user's own, which logs."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        loss = super().compute_loss(model, inputs, **options)
        self.log({"penalised": 1.0})
        return 3 * loss


def test_a_loss_of_a_subclass_is_measured_without_its_logging(tmp_path: Path) -> None:
    losses = []
    for kind in (Trainer, Penalised):
        callback = attached(measures=["loss"])
        trainer = trainer_of(tmp_path, callback, kind=kind, max_steps=1)
        trainer.train()
        losses.append(callback.monitor.table().filter(step=0)["value"].item())  # type: ignore[union-attr]
    assert losses[1] == pytest.approx(3 * losses[0])
    assert sum("penalised" in entry for entry in trainer.state.log_history) == 1


class Stop(TrainerCallback):
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        if state.global_step == 5:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")], ids=str
)
def test_an_end_by_an_error_is_recorded_and_the_run_can_be_resumed(
    error: type[BaseException], status: str, tmp_path: Path
) -> None:
    options = {"save_strategy": "steps", "save_steps": 4}
    trainer = trainer_of(tmp_path, attached(out=tmp_path / "run", measures=["loss"]), Stop(error), **options)
    with pytest.raises(error):
        trainer.train()
    with es.Record.open(tmp_path / "run") as record:
        assert record.status == status
    assert (tmp_path / "trainer" / "checkpoint-4" / FILE).is_file()
    callback = attached(out=tmp_path / "run", measures=["loss"])
    trainer = trainer_of(tmp_path, callback, **options)
    trainer.train(resume_from_checkpoint=str(tmp_path / "trainer" / "checkpoint-4"))
    assert callback.monitor.steps == 8  # type: ignore[union-attr]
    whole = attached(out=tmp_path / "whole", measures=["loss"])
    trainer_of(tmp_path / "other", whole).train()
    with es.Record.open(tmp_path / "whole") as one, es.Record.open(tmp_path / "run") as two:
        assert two.status == "finished"
        for mine, other in zip(one.series("loss", "train"), two.series("loss", "train"), strict=True):
            assert mine.tolist() == pytest.approx(other.tolist(), rel=1e-6)


def test_what_cannot_be_measured_is_said_and_training_goes_on(tmp_path: Path) -> None:
    class Odd(Trainer):
        def compute_loss(self, model: Any, inputs: Any, **options: Any) -> Any:
            loss = super().compute_loss(model, inputs, **options)
            return loss + 1e-3 * torch.rand(())

    callback = attached()
    plain = trainer_of(tmp_path / "a", kind=Odd)
    plain.train()
    trainer = trainer_of(tmp_path / "b", callback, kind=Odd)
    with pytest.warns(EdgescopeWarning, match="nothing is measured of this training"):
        trainer.train()
    assert callback.monitor is None
    assert torch.equal(weights(plain.model), weights(trainer.model))


def test_training_stops_where_it_diverges(tmp_path: Path) -> None:
    callback = attached(stop_on="diverging", every=1)
    trainer = trainer_of(tmp_path, callback, learning_rate=1e30, optim="sgd", max_steps=40, max_grad_norm=0)
    trainer.train()
    assert trainer.state.global_step < 20


def test_a_callback_that_is_added_later_finds_its_trainer(tmp_path: Path) -> None:
    callback = attached(measures=["loss"])
    trainer = trainer_of(tmp_path)
    trainer.add_callback(callback)
    trainer.train()
    assert callback.monitor.steps == 8  # type: ignore[union-attr]
