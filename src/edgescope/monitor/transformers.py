"""A monitor as a callback of the Hugging Face Trainer: ``Trainer(..., callbacks=[EdgescopeCallback(every=100)])``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from edgescope.atomic import write_aside
from edgescope.errors import InputError
from edgescope.extras import require
from edgescope.monitor.attached import AttachedCallback, Training
from edgescope.monitor.trainer_loss import count_of, loss_of_trainer, running_trainer, tell_of_errors
from edgescope.short_errors import short_errors

require("transformers", "this callback needs", "transformers")
from tqdm.auto import tqdm
from transformers import TrainerCallback

FILE: Final = "edgescope.pt"
"""In each checkpoint of the trainer: the state of the monitor."""


@short_errors
class EdgescopeCallback(AttachedCallback, TrainerCallback):
    """Takes measures of the model that a Hugging Face Trainer trains.

    Args:
        watch: a function of the model that returns the :class:`Objective` to measure. Without it that is the loss of
            ``Trainer.compute_loss`` on ``samples`` samples of the trainer's training data, drawn once and put together
            by its data collator, averaged over tokens or samples as the trainer averages.
        every: measure at every so many optimizer steps, or at the steps for which a function is true.
        data: instead of the trainer's training data: a DataLoader, a batch, or a list of batches.
        loss_fn: instead of ``compute_loss``: ``loss_fn(model, batch)``, the mean loss of a batch.
        samples: how many samples of a DataLoader are measured.
        seed: of their choice and of their augmentation.
        log: ``Trainer.log`` by default, and by it all that the trainer reports to; else as of :class:`Monitor`; None:
            nowhere.
        stop_on: stop training at the first event of this kind, such as "diverging" (:meth:`Monitor.on`).
        options: those of :class:`Monitor` and :class:`Objective`.

    Where training ends, the verdict on the run is printed, and is an entry of ``trainer.state.log_history``.
    ``callback.monitor`` is the monitor once training has started; its ``description`` says what is measured.
    Checkpoints of the trainer keep its state, so that ``train(resume_from_checkpoint=)`` continues the record in
    ``out=`` where the checkpoint was made. What cannot be measured gives one warning, and training goes on.
    """

    def on_init_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        trainer, _ = running_trainer(self)
        if trainer is not None:
            tell_of_errors(trainer, self._attached)

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        trainer, resumed_from = running_trainer(self)
        with self._attached.guarded("the state of the monitor in the checkpoint cannot be read"):
            state_dict = _saved_in(_folders(args, state, resumed_from))
            if state_dict is not None:
                self._attached.load_state_dict(state_dict)
        training = Training(
            model=parts["model"],
            optimizers=[parts["optimizer"]],
            steps=state.global_step,
            loss_fn=_no_loss if trainer is None else loss_of_trainer(trainer),
            loader=parts.get("train_dataloader"),
            prepare=lambda batch: batch,
            accumulate=getattr(args, "gradient_accumulation_steps", 1),
            tracker=_TrainerLog(trainer),
            count=None if trainer is None else count_of(trainer),
        )
        self._attached.begin(training)

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._attached.advanced_to(state.global_step)
        if self._attached.stopping.should_stop:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._attached.end()
        verdict = self._attached.verdict()
        if verdict is None or not state.is_world_process_zero:
            return
        # Not by Trainer.log, as what it reports to takes numbers alone; and the last entry stays the trainer's summary.
        with self._attached.guarded("the verdict cannot be logged"):
            entry = {"edgescope/verdict": verdict, "epoch": state.epoch, "step": state.global_step}
            state.log_history.insert(max(0, len(state.log_history) - 1), entry)
            tqdm.write(f"Edgescope: {verdict}")

    def on_save(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            kept = self._attached.state_dict()
            what = "the state of the monitor is not in the checkpoint"
            with self._attached.guarded(what), write_aside(folder / FILE) as aside:
                torch.save(kept, aside)


class _TrainerLog:
    """``Trainer.log`` as a tracker; its step is the trainer's own."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def log(self, values: dict[str, float], step: int) -> None:
        if self._trainer is None:
            return
        control = self._trainer.control
        due = control.should_log  # for what the trainer itself has to log at this step
        self._trainer.log(dict(values))
        self._trainer.control.should_log = due

    def close(self) -> None:
        pass


def _no_loss(model: Any, batch: Any) -> Any:
    raise InputError("the Trainer that calls this callback was not found", hint="loss_fn=lambda model, batch: ...")


def _folders(args: Any, state: Any, resumed_from: str | None) -> list[Path]:
    """Where the checkpoint may lie that training continues from; nowhere where it starts."""
    if not state.global_step:
        return []
    given = [resumed_from, getattr(args, "resume_from_checkpoint", None)]
    named = [Path(each) for each in given if isinstance(each, str)]
    return [*named, Path(args.output_dir) / f"checkpoint-{state.global_step}"]


def _saved_in(folders: list[Path]) -> dict[str, Any] | None:
    """The state that one of these folders keeps."""
    for folder in folders:
        if (folder / FILE).is_file():
            found: dict[str, Any] = torch.load(folder / FILE, map_location="cpu", weights_only=True)
            return found
    return None
