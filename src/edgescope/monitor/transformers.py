"""A monitor as a callback of the Hugging Face Trainer: ``Trainer(..., callbacks=[EdgescopeCallback(watch)])``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from edgescope.atomic import write_aside
from edgescope.extras import require
from edgescope.monitor.attached import Attached, Watch
from edgescope.monitor.monitor import Monitor

require("transformers", "this callback needs", "transformers")
from transformers import TrainerCallback

FILE: Final = "edgescope.pt"
"""In each checkpoint of the trainer: the state of the monitor."""


class EdgescopeCallback(TrainerCallback):
    """Takes measures of the model that a Hugging Face Trainer trains.

    ``watch(model)`` returns the :class:`Objective` to measure, made when training starts; ``options`` are those of
    :class:`Monitor`. ``callback.monitor`` is the monitor once training has started. Checkpoints of the trainer keep its
    state, so that ``train(resume_from_checkpoint=)`` continues the record in ``out=`` where the checkpoint was made.
    """

    def __init__(self, watch: Watch, **options: Any) -> None:
        self._attached = Attached(watch, options)

    @property
    def monitor(self) -> Monitor | None:
        return self._attached.monitor

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        state_dict = _saved_in(_folders(args, state))
        if state_dict is not None:
            self._attached.load_state_dict(state_dict)
        self._attached.begin(parts["model"], [parts["optimizer"]], state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._attached.advanced_to(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._attached.end()

    def on_save(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            with write_aside(folder / FILE) as aside:
                torch.save(self._attached.state_dict(), aside)


def _folders(args: Any, state: Any) -> list[Path]:
    """Where the checkpoint may lie that training continues from; nowhere where it starts."""
    if not state.global_step:
        return []
    given = getattr(args, "resume_from_checkpoint", None)
    named = [Path(given)] if isinstance(given, str) else []
    return [*named, Path(args.output_dir) / f"checkpoint-{state.global_step}"]


def _saved_in(folders: list[Path]) -> dict[str, Any] | None:
    """The state that one of these folders keeps."""
    for folder in folders:
        if (folder / FILE).is_file():
            found: dict[str, Any] = torch.load(folder / FILE, map_location="cpu", weights_only=True)
            return found
    return None
