"""Runs of the user's own trainer, a LightningModule or a Hugging Face Trainer, at a learning rate: tasks of a sweep."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edgescope.errors import InputError
from edgescope.measures import Reading
from edgescope.options import check_int
from edgescope.progress import Progress
from edgescope.short_errors import short_errors
from edgescope.store import Record
from edgescope.store.rng import rng_state, set_rng_state
from edgescope.sweep.attachment import Attachment, UserTrainer
from edgescope.sweep.task import Tagged
from edgescope.training.own import call_by_name
from edgescope.user_code import function_named

RETURNS: Final = (
    "a transformers.Trainer, (module, data) or (module, data, test) for Lightning, or a dict with these names"
)

MEASURES: Final = (
    "loss",
    "learning_rate",
    "sharpness@end",
    "norms@end",
    "effective_sharpness@end",
    "ratio",
    "headroom",
)
"""What the verdict on a run, and the report of a sweep, rest on."""


@dataclass(frozen=True)
class TrainerRun:
    """A run of what ``function`` (``module:function``) returns for a learning rate ``lr``, after seeding with ``seed``.

    ``function`` takes ``lr``, and ``seed`` where it wants to. It returns a ``transformers.Trainer``; or, for Lightning,
    ``(module, data)``, ``(module, data, test)`` or a dict with the keys ``module``, ``data``, ``test`` and ``trainer``:
    the LightningModule, its DataLoader or LightningDataModule, the DataLoader of its validation, and options of
    ``lightning.Trainer``. Readings are those of the callback (docs/frameworks.md), on ``samples`` samples of the
    training data, every so many steps (``every``; by default some 25 in all). The ``loss`` has the part "test" at the
    end where the trainer has data to validate on: its own validation loss.
    """

    function: str
    lr: float
    seed: int = 0
    every: int | None = None
    samples: int = 256
    measures: tuple[str, ...] = MEASURES

    def __post_init__(self) -> None:
        if self.every is not None:
            check_int("a run of a trainer", "every", self.every, least=1)
        check_int("a run of a trainer", "samples", self.samples, least=1)


@dataclass(frozen=True)
class TrainerTask(Tagged):
    """One run of a trainer of the user's as a task of a sweep. A run that was interrupted begins anew."""

    name: str
    config: TrainerRun
    cost: float = 1.0

    def run(self, folder: Path, progress: Progress) -> None:
        before = rng_state()
        try:
            trainer = made_trainer(self.config)
            config = {**asdict(self.config), "measures": list(self.config.measures), "trainer": trainer.framework}
            with Record.create(folder, config=config, tags=dict(self.tags), overwrite=True) as record:
                options = {"record": record, "samples": self.config.samples, "measures": self.config.measures}
                began = time.monotonic()
                found = trainer.run(Attachment(folder, options, progress), self.config.every)
                record.set_info("seconds", time.monotonic() - began)
                if found is not None:
                    _add_test_loss(record, *found)
                if record.status == "running":
                    record.set_status("finished")
        finally:
            set_rng_state(before)
        progress(1.0)


def _add_test_loss(record: Record, name: str, value: float) -> None:
    """The validation loss of a trainer as the test loss of the last step."""
    last = record.last_step or 0
    table = record.table("loss").filter(step=last, part="train")
    values = {"train": float(table["value"][0])} if table.height and table["value"][0] is not None else {}
    record.append(last, [Reading("loss", {**values, "test": value}, note=f"test: {name} of the trainer")], add=True)


@short_errors
def trainer_tasks(
    function: str,
    lrs: Sequence[float],
    seeds: Sequence[int] = (0,),
    *,
    every: int | None = None,
    samples: int = 256,
    measures: Sequence[str] = MEASURES,
) -> list[TrainerTask]:
    """Tasks for :func:`run_tasks`: a :class:`TrainerRun` of ``function`` at each learning rate with each seed.

    The names of the tasks are as ``"lr0.1"``, and ``"lr0.1-seed2"`` for other seeds than the first. ``function`` is
    called once, at the smallest learning rate, so that an error in it is raised before anything is trained.
    """
    if not (len(lrs) and len(seeds)):
        raise InputError("a sweep without learning rates or seeds", expected="at least one of each")
    tasks = []
    for lr in lrs:
        for seed in seeds:
            config = TrainerRun(function, float(lr), seed, every, samples, tuple(measures))
            tasks.append(TrainerTask(f"lr{lr:g}" if seed == seeds[0] else f"lr{lr:g}-seed{seed}", config))
    before = rng_state()
    try:
        made_trainer(min(tasks, key=lambda task: task.config.lr).config)
    finally:
        set_rng_state(before)
    return tasks


def takes_lr(name: str) -> bool:
    """Whether ``module:function`` has an argument ``lr`` without a default: then it returns a trainer."""
    found = _parameters(name).get("lr")
    return found is not None and found.default is inspect.Parameter.empty


def made_trainer(config: TrainerRun) -> UserTrainer:
    """What the function returns; InputError where that is no trainer. Seeds Python's, NumPy's and torch's generators,
    which go on from there in training."""
    further: dict[str, Any] = {"lr": config.lr}
    if "seed" in _parameters(config.function):
        further["seed"] = config.seed
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)  # noqa: NPY002 (what the user's code draws from)
    made = call_by_name(config.function, config.seed, RETURNS, **further)
    torch.manual_seed(config.seed)
    if any(kind.__module__.startswith("transformers.") and kind.__name__ == "Trainer" for kind in type(made).__mro__):
        from edgescope.sweep.transformers_trainer import HuggingFaceTrainer

        return HuggingFaceTrainer(made)
    from edgescope.sweep.lightning_trainer import LightningTrainer

    return LightningTrainer.of(config.function, made, RETURNS)


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    function = function_named(":".join(name.split(":", 2)[:2]), "function", RETURNS)
    try:
        return inspect.signature(function).parameters
    except ValueError:  # a callable without a signature
        return {}
