"""The training loss of a Hugging Face Trainer as a function of model and batch, averaged as the trainer averages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from edgescope.errors import InputError


class Ends(Protocol):
    """What is told that training has ended by an error."""

    def end(self, *, error: BaseException | None) -> None: ...


def loss_of_trainer(trainer: Any) -> Callable[[Any, Any], Tensor]:
    """``loss_fn(model, batch)``: what ``trainer.compute_loss`` returns, without what it logs.

    Where the trainer divides sums over tokens by their number in all batches of a step, that of the batch is taken.
    """

    def loss_fn(model: Any, batch: Any) -> Tensor:
        if not isinstance(batch, Mapping):
            raise InputError(
                f"the data collator gives a {type(batch).__name__}",
                expected="a dict",
                hint="loss_fn=, for other batches",
            )
        args = trainer.args
        log, averaged = vars(trainer).get("log"), args.average_tokens_across_devices
        trainer.log = lambda *_, **__: None
        args.average_tokens_across_devices = False  # the mean over processes is taken of their losses
        try:
            found = trainer.compute_loss(model, dict(batch), num_items_in_batch=_labels_in(trainer, batch))
        finally:
            args.average_tokens_across_devices = averaged
            del trainer.log
            if log is not None:
                trainer.log = log
        if not isinstance(found, Tensor):
            raise InputError(f"compute_loss returns a {type(found).__name__}", expected="the loss of the batch")
        return found

    return loss_fn


def count_of(trainer: Any) -> Callable[[Any], float] | None:
    """The weight of a batch where the trainer averages over labels; None where it leaves that to the loss."""
    accepts = getattr(trainer, "model_accepts_loss_kwargs", False)
    if not accepts and getattr(trainer, "compute_loss_func", None) is None:
        return None

    def count(batch: Any) -> float:
        number = _labels_in(trainer, batch)
        return float(len(next(iter(batch.values())))) if number is None else float(number)

    return count


def _labels_in(trainer: Any, batch: Mapping[str, Any]) -> Tensor | None:
    """How many labels of a batch the trainer counts, which are not -100; None where it does not count them."""
    counts = getattr(trainer, "model_accepts_loss_kwargs", False) or getattr(trainer, "compute_loss_func", None)
    if not counts or not isinstance(batch.get("labels"), Tensor):
        return None
    if "shift_labels" in batch:
        labels = batch["shift_labels"]
    else:
        labels = batch["labels"][..., 1:] if getattr(trainer, "_loss_shifts_labels", False) else batch["labels"]
    number: Tensor = labels.ne(-100).sum()
    return number


def running_trainer(callback: Any) -> tuple[Any, str | None]:
    """The trainer that is calling this callback, and the checkpoint that it was told to continue from, if it was.

    A callback is given everything but the trainer itself: it is found among the callers.
    """
    trainer, resumed_from, frame = None, None, inspect.currentframe()
    while frame is not None:
        one = frame.f_locals.get("self")
        callbacks = getattr(getattr(one, "callback_handler", None), "callbacks", ())
        if trainer is None and hasattr(one, "compute_loss") and any(each is callback for each in callbacks):
            trainer = one
        if trainer is not None and one is trainer:
            given = frame.f_locals.get("resume_from_checkpoint")
            resumed_from = given if isinstance(given, str) else resumed_from
        frame = frame.f_back
    return trainer, resumed_from


def tell_of_errors(trainer: Any, attached: Ends) -> None:
    """Let ``attached`` know of the error that ends ``trainer.train()``, which calls no callback then."""
    train = trainer.train

    @functools.wraps(train)
    def told(*args: Any, **options: Any) -> Any:
        try:
            return train(*args, **options)
        except BaseException as error:
            attached.end(error=error)
            raise

    trainer.train = told
