"""A Hugging Face Trainer of the user's as a run of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgescope.extras import require
from edgescope.sweep.attachment import Attachment, refuse_unmeasured

require("transformers", "a sweep of a Trainer needs", "transformers")
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import SaveStrategy

from edgescope.monitor.transformers import EdgescopeCallback


@dataclass(frozen=True)
class HuggingFaceTrainer:
    """A ``transformers.Trainer``, which writes to the folder of its run, and no checkpoints."""

    trainer: Any

    framework = "Transformers"

    def run(self, attachment: Attachment, every: int | None) -> tuple[str, float] | None:
        """Train, and evaluate where the trainer has data for that."""
        trainer = self.trainer
        trainer.args.output_dir = str(attachment.folder / "trainer")
        trainer.args.save_strategy = SaveStrategy.NO
        for shown in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(shown)
        options = attachment.callback_options(lambda: trainer.state.max_steps or None, every)
        trainer.add_callback(_MeasuringInTransformers(**options))
        trainer.train()
        if trainer.eval_dataset is None:
            return None
        value = trainer.evaluate().get("eval_loss")
        return None if value is None else ("eval_loss", float(value))


class _MeasuringInTransformers(EdgescopeCallback):
    """The callback, which refuses to train unmeasured, and measures everything at the end."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        super().on_train_begin(args, state, control, **parts)
        refuse_unmeasured(self)

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        if self.monitor is not None:
            self.monitor.finish(everything=True)
        super().on_train_end(args, state, control, **parts)
