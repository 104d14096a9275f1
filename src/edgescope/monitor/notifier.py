"""What a user must know of a run, given once; and failures of measuring, which do not end training."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Literal

import torch

from edgescope.arithmetic import plain_arithmetic
from edgescope.errors import EdgescopeError, EdgescopeWarning, ModelChangedError
from edgescope.monitor.run_state import RunState
from edgescope.notices import Notices, with_hint
from edgescope.store import Record
from edgescope.user_code import describe_exception

OnError = Literal["warn", "raise"]


class Notifier:
    """Gives each notice once, as a warning and as an event in the record at the present step.

    With ``on_error`` "raise", errors are not turned into notices.
    """

    def __init__(self, record: Record, progress: RunState, on_error: OnError) -> None:
        self.notices = Notices()
        self.on_error = on_error
        self._record, self._progress = record, progress

    def notify(self, kind: str, text: str, *, faq: str, hint: str = "", cause: str = "", warn: bool = True) -> None:
        """Give a notice, unless one of this kind and cause was given before; options as of :meth:`Notices.give`."""
        if (kind, cause) in self.notices.given():
            return
        with contextlib.suppress(EdgescopeError):  # that the record cannot be written is noticed where it is written
            self._record.note(self._progress.step, kind, with_hint(text, hint, faq))
        self.notices.give(kind, text, faq=faq, hint=hint, cause=cause, warn=warn)

    @contextlib.contextmanager
    def guarded(self, what: str, cause: str = "") -> Iterator[None]:
        """Nothing that goes wrong inside ends training: it becomes a notice. KeyboardInterrupt is raised.

        There is one notice for each text without its numbers, or one in all for a ``cause``.
        """
        try:
            yield
        except (KeyboardInterrupt, EdgescopeWarning):  # a warning raises where the caller has made warnings errors
            raise
        except BaseException as error:
            if self.on_error == "raise":
                raise
            text = str(error) if isinstance(error, EdgescopeError) else describe_exception(error)
            self.notify("measure", f"{what} ({text})", faq="failed-measures", cause=cause or without_numbers(text))

    @contextlib.contextmanager
    def measuring(self, what: str) -> Iterator[None]:
        """As :meth:`guarded`, in plain arithmetic whatever the caller's context.

        That the model has changed is no failure here: :meth:`RunChecks.after_reading` gives a notice of it.
        """
        with self.guarded(what), contextlib.suppress(ModelChangedError), plain_arithmetic(), torch.no_grad():
            yield


def without_numbers(text: str) -> str:
    """A text with its numbers left out, so that one cause is one text: "tried to allocate # GiB"."""
    return re.sub(r"0x[0-9a-fA-F]+|\d[\d.,]*", "#", text)
