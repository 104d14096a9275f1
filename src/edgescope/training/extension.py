"""Extending an ended run by more steps, so that it equals a run with all steps from the start."""

from __future__ import annotations

from typing import Any

from edgescope.errors import InputError, RecordError
from edgescope.monitor.order import in_order
from edgescope.monitor.schedule import AtEnd
from edgescope.store import Checkpoint, Record, unpack_state
from edgescope.store.record import ENDED
from edgescope.training.config import RunConfig
from edgescope.training.schedules import SCHEDULES


def asks_for_more(config: RunConfig, record: Record) -> bool:
    """Whether ``config`` is that of ``record`` with more steps; :class:`InputError` if another option differs, or if
    the learning rate depends on the number of steps."""
    then, now = record.config, config.as_dict()
    for name in {**now, **then}:
        if then.get(name) != now.get(name) and not (name == "steps" and then.get(name, 0) < now["steps"]):
            raise InputError(
                f"the run in {record.folder} has {name} = {then.get(name)}, not {now.get(name)}",
                expected="the configuration it was started with, with as many steps or more",
                hint="another folder",
            )
    if then != now and SCHEDULES.build(config.schedule).needs_total:
        raise InputError(
            f"the run in {record.folder} with schedule={config.schedule} cannot be given more steps",
            expected="a learning rate that does not depend on the number of steps",
            hint="another folder",
        )
    return then != now


def extend(config: RunConfig, record: Record, checkpoint: Checkpoint | None) -> None:
    """Turn ``record`` into that of ``config``, which has more steps, up to the present step.

    Readings taken only because training ended are removed. A run that diverged or met a stop condition is left
    unchanged, since it would have ended there with more steps too.
    """
    if record.status not in ENDED or _has_stopped(record):
        record.extend(config.as_dict())
        return
    if {"batched", "together"} & record.info.keys():  # "together" in records of earlier versions
        raise RecordError(
            f"{record.folder} was trained in one batch with other runs and has no checkpoint of its own",
            hint="another folder",
        )
    ended = int(record.info["steps"])
    if checkpoint is None or checkpoint.step < ended:  # what comes after it is done again
        record.extend(config.as_dict(), ended)
        return
    before: dict[str, Any] | None = unpack_state("run", checkpoint.tensors, checkpoint.meta).get("before_end")
    if before is None:
        if any(isinstance(schedule, AtEnd) for schedule in in_order(config.measures)[1].values()):
            raise RecordError(
                f"{record.folder} was trained by an earlier version, whose last checkpoint cannot be extended",
                hint="another folder",
            )
        table = record.table()
        read = zip(table["step"], table["measure"], strict=True)
        before = before_the_end(record, ended, [measure for step, measure in read if step == ended])
    record.extend(config.as_dict(), ended, before["measures"], before["events"])


def before_the_end(record: Record, step: int, measures: list[str]) -> dict[str, Any]:
    """What the last checkpoint stores for :func:`extend`: the ``measures`` and events of ``step`` so far."""
    # By columns, without a query: the threads of polars are no longer there in a process that was forked.
    table = record.events()
    events = zip(table["step"], table["kind"], table["text"], strict=True)
    return {"measures": measures, "events": [[kind, text] for at, kind, text in events if at == step]}


def _has_stopped(record: Record) -> bool:
    return record.status == "diverged" or "stopped" in record.events()["kind"].to_list()
