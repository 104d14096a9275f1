"""The step at which a monitor continues a record, and the removal of the readings after that step.

A record is continued at one step: by a state that the caller has loaded, by a number that the caller has given, or by
what can be found from parameters and optimizers. Readings after that step are removed before the first new one is
taken, so that those of two sessions are never mixed.
"""

from __future__ import annotations

import contextlib
import hashlib
import numbers
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from edgescope.errors import EdgescopeError, InputError
from edgescope.monitor.reader import Reader, what_is_measured
from edgescope.objective.processes import ProcessGroup, as_the_first, is_first
from edgescope.optim.unwrap import inside
from edgescope.shards import local
from edgescope.store import Record
from edgescope.store.creation import FILE

DIGESTS: Final = "parameters_digest"
"""The info of a record that has digests of the parameters at step 0 (``initial``) and where the monitor was closed
(``final``, at ``step``)."""

Resume = bool | int


class Continuation:
    """The step at which a record is continued, found and applied before the monitor takes the first step.

    ``pending`` says whether the record is still to be cut; until then it stands as it did. ``reopened`` says whether a
    run that had ended is running again.
    """

    def __init__(self, resume: Resume, record: Record, reader: Reader) -> None:
        self.pending = resume is not False
        self.reopened = False
        self._record, self._reader = record, reader
        self._place_known = resume is not True
        if resume is not True and resume:
            reader.progress.continue_at(resume)
        if resume is True or resume:
            require_measured(record, what_is_measured(reader.objective))

    @property
    def untouched(self) -> bool:
        """Whether the record still stands as an earlier monitor left it."""
        return self.pending and self._record.last_step is not None

    def loaded(self) -> None:
        """A state has been loaded, and with it the step at which the record is continued."""
        self.pending = self._place_known = True

    def find_place(self) -> None:
        """Find after how many steps the run is continued; :class:`InputError` where it cannot be found."""
        if not self._place_known:
            self._reader.progress.continue_at(as_the_first(self._place, self._reader.objective.group))
            self._place_known = True

    def _place(self) -> int:
        reader = self._reader
        if not is_first(reader.objective.group):  # which has the record, and this process one of its own in memory
            return steps_counted(reader.optimizers)
        return step_to_continue(self._record, reader.objective.tensors, reader.optimizers)

    def begin(self) -> None:
        """Training begins: from now on the record ends where the run is continued."""
        if self.pending:
            self.find_place()
            with self._reader.notifier.guarded("the record cannot be cut where it is continued"):
                self.reopened = cut(self._record, self._reader.progress.step) or self.reopened
                self.pending = False

    def note_digest(self, final: bool) -> None:
        """Keep the digest of the parameters as those of step 0, or as the last ones; not of a record in memory."""
        if not final and self._reader.progress.step:
            return
        if str(self._record.folder) == ":memory:":
            return
        with contextlib.suppress(EdgescopeError):  # what cannot be written, or is not there, is noticed elsewhere
            digest = digest_of(self._reader.objective.tensors)
            now = {"final": digest, "step": self._reader.progress.step} if final else {"initial": digest}
            self._record.set_info(DIGESTS, self._record.info.get(DIGESTS, {}) | now)


@contextlib.contextmanager
def closed_by_errors(record: Record | None) -> Iterator[None]:
    """What the block raises closes the record, so that its lock is free."""
    try:
        yield
    except BaseException:
        if record is not None:
            record.close()
        raise


def checked_resume(resume: Any, has_place: bool) -> Resume:
    """Whether, or from which step, to continue; InputError for what is neither, or True with nothing to continue."""
    if isinstance(resume, bool):
        if resume and not has_place:
            raise InputError("resume=True without a record", expected="out= with the folder of the record")
        return resume
    if not isinstance(resume, numbers.Integral) or resume < 0:
        raise InputError(f"resume={resume!r}", expected="True, False, or the number of steps already taken")
    return int(resume)


def record_of_first(
    folder: str | os.PathLike[str] | None, config: dict[str, Any] | None, resume: Resume, group: ProcessGroup | None
) -> Record:
    """:func:`open_or_create` on the first of the processes that measure together, which writes; others get a new one.

    Those are in memory, as is that of the first where it has no ``folder``: the processes need not give the same one.
    Without a ``group`` it is the first of all processes. What fails on the first fails on all.
    """
    if folder is None or not is_first(group):
        if group is not None:
            as_the_first(lambda: None, group)
        return Record.in_memory(config)
    opened: list[Record] = []
    as_the_first(lambda: opened.append(open_or_create(folder, config, resume)), group)
    return opened[0]


def open_or_create(folder: str | os.PathLike[str], config: dict[str, Any] | None, resume: Resume) -> Record:
    """The record in ``folder``, its lock taken, where there is one and it is to be continued; else a new one."""
    if resume is False or not os.path.exists(os.path.join(folder, FILE)):
        return Record.create(folder, config=config)
    record = Record.open(folder)
    with closed_by_errors(record):
        if config is not None:
            record.require(config)
        record.claim()
    return record


def require_measured(record: Record, measured: dict[str, Any]) -> None:
    """Raise :class:`InputError` where the readings of a record are of another objective, as far as that is known."""
    then = record.info.get("measured", {})
    for name, now in measured.items():
        if record.last_step is not None and name in then and then[name] != now:
            raise InputError(
                f"the record in {record.folder} was measured with {name} = {then[name]}, not {now}",
                expected="the model and the objective that it was begun with",
                hint="another folder, or resume=0 to replace all of its readings",
            )


def step_to_continue(record: Record, tensors: Sequence[Tensor], optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """The number of steps that training has taken, from what is known of it.

    In this order: the step at which the record was closed, where the parameters are the same bit for bit; the steps
    that the optimizers have counted, where they do; 0, where the parameters are those of the record's step 0. An empty
    record begins at 0. Raises :class:`InputError` where none of these is known.
    """
    last = record.last_step
    if last is None:
        return 0
    known, now = record.info.get(DIGESTS, {}), digest_of(tensors)
    if known.get("final") == now:
        return int(known["step"])
    counted = steps_counted(optimizers)
    if counted:
        return counted
    if known.get("initial") == now:
        return 0
    raise InputError(
        f"the record in {record.folder} has readings up to step {last}, and neither the parameters nor the optimizer"
        " tell after how many steps this training goes on",
        expected="monitor.load_state_dict(...) before the first step",
        hint=f"resume={last} to go on after its last step, resume=0 to replace it, or another folder",
    )


def steps_counted(optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """The largest number of steps that optimizers have counted in their own state; 0 where none counts."""
    largest = 0
    for optimizer in optimizers:
        for state in optimizer.state.values():
            count = state.get("step") if isinstance(state, dict) else None
            if isinstance(count, int | float) or (isinstance(count, Tensor) and count.numel() == 1):
                largest = max(largest, int(count))
        inner = inside(optimizer)
        if inner is not None and inner is not optimizer:
            largest = max(largest, steps_counted([inner]))
    return largest


def digest_of(tensors: Sequence[Tensor]) -> str:
    """A digest of parameters, equal for equal bits alone; of the shards that this process holds."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(local(tensor.detach()).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def cut(record: Record, step: int) -> bool:
    """Let the record end at ``step`` and be running, and note that; nothing where it has no readings.

    Whether it was not running before.
    """
    last = record.last_step
    if last is None:
        return False
    removed = record.remove_after(step)
    text = f"continued from step {step}"
    if removed:
        text += f"; {removed} later step{'s' * (removed > 1)}, up to {last}, removed"
    record.note(step, "resumed", text)
    if record.status == "running":
        return False
    record.set_status("running")
    return True
