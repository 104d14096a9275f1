"""A LightningModule of the user's as a run of a sweep."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from edgescope.errors import InputError
from edgescope.extras import require
from edgescope.sweep.attachment import Attachment, refuse_unmeasured

require("lightning", "a sweep of a LightningModule needs", "lightning")
import lightning
from lightning.pytorch.utilities.model_helpers import is_overridden

from edgescope.monitor.lightning import EdgescopeCallback

KEYS: Final = ("module", "data", "test", "trainer")

QUIET: Final = {
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Options of a trainer in a sweep that the user does not give: runs are many, on one device each."""


@dataclass(frozen=True)
class LightningTrainer:
    """``module`` with its training ``data``, the data of its validation, and the ``options`` of its trainer."""

    module: Any
    data: Any
    test: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)

    framework = "Lightning"

    @classmethod
    def of(cls, name: str, made: Any, returns: str) -> Self:
        """Of what the function ``name`` returned; InputError where that is not a module with its data."""
        if isinstance(made, tuple | list) and len(made) in (2, 3):
            made = dict(zip(KEYS, made, strict=False))
        if not isinstance(made, Mapping):
            raise InputError(f"function '{name}' returned a {type(made).__name__}", expected=returns)
        unknown, missing = [key for key in made if key not in KEYS], [key for key in KEYS[:2] if key not in made]
        if unknown or missing:
            fault = f"with '{unknown[0]}'" if unknown else f"without '{missing[0]}'"
            raise InputError(f"function '{name}' returned a dict {fault}", expected=f"the keys {', '.join(KEYS)}")
        module, options = made["module"], made.get("trainer")
        if not isinstance(module, lightning.LightningModule):
            kind = type(module).__name__
            hint = "module.lightning.pytorch: 'import lightning' and 'import pytorch_lightning' are two packages"
            other = any(base.__name__ == "LightningModule" for base in type(module).__mro__)
            raise InputError(
                f"function '{name}' returned a module of type {kind}",
                expected="a lightning.LightningModule",
                hint=hint if other else None,
            )
        if not isinstance(options, Mapping | None):
            raise InputError(
                f"function '{name}' returned a trainer of type {type(options).__name__}",
                expected="a dict of options of lightning.Trainer, which each run makes for itself",
            )
        return cls(module, made["data"], made.get("test"), dict(options or {}))

    def run(self, attachment: Attachment, every: int | None) -> tuple[str, float] | None:
        """Fit the module in a trainer that writes to the folder of the run, and validate it."""
        with _quiet(), _interrupts_as_usual():
            trainers: list[Any] = []
            callback = _MeasuringInLightning(**attachment.callback_options(lambda: _steps_of(trainers[0]), every))
            given = self.options.get("callbacks") or []
            others = given if isinstance(given, list | tuple) else [given]
            options = {**QUIET, "default_root_dir": attachment.folder, **self.options}
            trainer = lightning.Trainer(**options | {"callbacks": [*others, callback]})
            trainers.append(trainer)
            try:
                trainer.fit(self.module, **self._arguments())
                return self._validated(trainer)
            except SystemExit as error:
                if getattr(error, "__context__", None).__class__ is KeyboardInterrupt:
                    raise KeyboardInterrupt from error  # Lightning ends the process
                raise

    def _arguments(self) -> dict[str, Any]:
        if isinstance(self.data, lightning.LightningDataModule):
            return {"datamodule": self.data}
        return {"train_dataloaders": self.data, "val_dataloaders": self.test}

    def _validated(self, trainer: Any) -> tuple[str, float] | None:
        """The validation loss of the final weights; None without data or a step for it."""
        arguments = self._arguments()
        source = arguments.get("datamodule") or self.module
        has_data = self.test is not None or is_overridden("val_dataloader", source)
        if not (has_data and is_overridden("validation_step", self.module)):
            return None
        arguments = {
            "dataloaders" if key == "val_dataloaders" else key: value
            for key, value in arguments.items()
            if key != "train_dataloaders"
        }
        return loss_among(trainer.validate(self.module, **arguments, verbose=False))


class _MeasuringInLightning(EdgescopeCallback):
    """The callback, which refuses to train unmeasured, and measures everything at the end."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        refuse_unmeasured(self)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.monitor is not None:
            self.monitor.finish(everything=True)
        super().on_train_end(trainer, pl_module)


def loss_among(metrics: list[Mapping[str, float]]) -> tuple[str, float] | None:
    """Of what was validated, the first value whose name ends in "loss"; None where there is none."""
    for values in metrics:
        for name, value in values.items():
            if name.split("/dataloader_idx_")[0].endswith("loss"):
                return name, float(value)
    return None


def _steps_of(trainer: Any) -> float | None:
    """The optimizer steps that the trainer is going to take; None where it does not know."""
    steps = float(trainer.estimated_stepping_batches)
    return steps if math.isfinite(steps) and steps > 0 else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says about a trainer, which many runs would repeat."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _interrupts_as_usual() -> Iterator[None]:
    """Ctrl-C afterwards does what it did before: Lightning ignores it from the first one on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None:  # one that Python has set
            signal.signal(signal.SIGINT, before)
