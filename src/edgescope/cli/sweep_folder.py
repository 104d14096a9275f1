"""What the folder of a sweep says of it, and the extension of a finished sweep by rates, seeds and steps."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from edgescope.atomic import write_file
from edgescope.description import SWEEP, read_description
from edgescope.disk_errors import storage_faults
from edgescope.errors import InputError, RecordError

GROWS = ("every", "checkpoint_every")
"""Options that follow from the number of steps, and stay as they were where that grows."""


@dataclass(frozen=True)
class SweepContent:
    """The options of a sweep: ``base``, what all runs share, and what differs between them.

    ``lr`` is the text of the rates that it began with, None for those around the critical one; ``added`` are rates of
    later calls. The seeds are those from ``base["seed"]`` on. With ``equal_steps`` no run stops at a training loss.
    ``widths`` are those of the networks, of which ``base`` has the first; none where the width is not varied.
    """

    base: dict[str, Any]
    lr: str | None
    added: tuple[float, ...] = ()
    seeds: int = 1
    equal_steps: bool = False
    widths: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What a folder says of the sweep in it; None where there is none, RecordError where that is damaged."""
        found = sweep_in(folder)
        if found is None:
            return None
        base, lr, added = found.get("base"), found.get("lr"), found.get("added", [])
        seeds, equal_steps = found.get("seeds", 1), found.get("equal_steps", False)
        widths = found.get("widths", [])
        if (
            not (isinstance(base, dict) and isinstance(base.get("steps"), int))
            or not isinstance(lr, str | None)
            or not (isinstance(added, list) and all(isinstance(one, int | float) for one in added))
            or not (isinstance(seeds, int) and seeds >= 1)
            or not isinstance(equal_steps, bool)
            or not (isinstance(widths, list) and all(isinstance(one, int) for one in widths))
        ):
            raise RecordError(
                f"{folder / SWEEP} does not describe a sweep of this version", hint="another --out for a new sweep"
            )
        return cls(base, lr, tuple(map(float, added)), seeds, equal_steps, tuple(widths))

    def write(self, folder: Path) -> None:
        """Store it in ``folder``."""
        content: dict[str, Any] = {"base": self.base, "lr": self.lr}
        optional = {"added": self.added, "seeds": self.seeds, "equal_steps": self.equal_steps, "widths": self.widths}
        defaults = {"added": (), "seeds": 1, "equal_steps": False, "widths": ()}
        content |= {name: value for name, value in optional.items() if value != defaults[name]}
        write_file(folder / SWEEP, json.dumps(content))

    def extended(self, asked: SweepContent, folder: Path) -> SweepContent:
        """This sweep with the rates, seeds and steps that ``asked`` has beyond it.

        Raises :class:`RecordError` that names the option if ``asked`` is another sweep, and :class:`InputError` for
        more steps where the learning rate depends on their number.
        """
        from edgescope.sweep import rates
        from edgescope.training.schedules import SCHEDULES

        now = json.loads(json.dumps(asked.base))
        differ = [name for name in {**now, **self.base} if name not in GROWS and now.get(name) != self.base.get(name)]
        steps, before = now["steps"], self.base["steps"]
        if "steps" in differ and steps > before:
            differ.remove("steps")
        changed = [(name, self.base.get(name), now.get(name)) for name in differ]
        changed += [
            (name, getattr(self, name), getattr(asked, name))
            for name in ("equal_steps", "widths")
            if getattr(self, name) != getattr(asked, name)
        ]
        if changed:
            name, then, given = changed[-1] if changed[-1][0] == "widths" else changed[0]
            raise RecordError(
                f"{folder} does not hold a sweep with these options ({name} = {then} there, {given} here)",
                hint="the same options, with more rates, seeds or steps, or another --out",
            )
        schedule = now.get("schedule", "constant")
        if steps > before and SCHEDULES.build(schedule).needs_total:
            raise InputError(
                f"more steps for a sweep with the schedule '{schedule}'",
                expected="a learning rate that does not depend on the number of steps",
                hint="another --out",
            )
        known = set() if self.lr is None else set(rates(self.lr))
        added = set(self.added) | (
            set(rates(asked.lr)) - known if asked.lr is not None and asked.lr != self.lr else set()
        )
        return replace(
            self,
            base={**self.base, "steps": steps},
            added=tuple(sorted(added)),
            seeds=max(self.seeds, asked.seeds),
        )


def sweep_in(folder: Path) -> dict[str, object] | None:
    """What a folder says of the sweep in it; None where there is none, RecordError where that is damaged."""
    return read_description(folder / SWEEP)


def reopen_shorter(folder: Path, steps: int) -> None:
    """Have the next call give more steps, ``steps`` in all, to the runs of a sweep that were configured with fewer.

    It continues those that were ended by their number of steps, and leaves the others as they are.

    Raises :class:`RecordError`, with nothing changed, for a run to be continued that was trained in one batch with
    others: it has no checkpoint of its own.
    """
    from edgescope.store import Record
    from edgescope.store.record import ENDED, FILE

    due = []
    for path in sorted((folder / "runs").glob(f"*/{FILE}")):
        with Record.open(path.parent) as record:
            if record.status not in ENDED or int(record.config.get("steps", steps)) >= steps:
                continue
            if "batched" not in record.info:
                due.append(path.parent / "outcome.json")
            elif record.status != "diverged" and "stopped" not in record.events()["kind"].to_list():
                raise RecordError(
                    f"{path.parent} was trained in one batch with other runs and cannot be given more steps",
                    hint="another --out, and --batched never for a sweep that is to be extended",
                )
    for outcome in due:
        with storage_faults(outcome):
            outcome.unlink(missing_ok=True)
