"""What a trainer of the user's is run with in a sweep: its folder, the options of the callback, and its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from edgescope.errors import InputError
from edgescope.measures import Reading
from edgescope.progress import Progress

READINGS: Final = 25
"""The number of readings during a run whose number of steps the trainer knows."""

USUAL_EVERY: Final = 10
"""Steps between readings where it does not."""


@dataclass(frozen=True)
class Attachment:
    """What a trainer is run with: its ``folder``, the options of the callback, and who is told of the progress."""

    folder: Path
    options: Mapping[str, Any]
    progress: Progress

    def callback_options(self, total: Callable[[], float | None], every: int | None) -> dict[str, Any]:
        """Those of the callback of a trainer of ``total()`` steps, known once training has started."""

        def due(step: int) -> bool:
            steps = total()
            return step % (every or (USUAL_EVERY if not steps else max(1, int(steps) // READINGS))) == 0

        def tell(step: int, readings: Mapping[str, Reading]) -> None:
            steps = total()
            self.progress(min(step / steps, 1.0) if steps else 0.0, f"step {step}")

        return {"every": due, "on_reading": tell, "log": None, **self.options}


class UserTrainer(Protocol):
    """What a function of the user's returned, ready to be run once."""

    framework: str

    def run(self, attachment: Attachment, every: int | None) -> tuple[str, float] | None:
        """Train, with the callback; the name and the value of the validation loss where there is one."""


def refuse_unmeasured(callback: Any) -> None:
    """Raise :class:`InputError` where the callback, after the start of training, has found nothing to measure."""
    if callback.monitor is None:
        raise InputError(callback.refusal or "nothing is measured of this training")
