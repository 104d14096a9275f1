"""``edgescope sweep`` of a function that returns a trainer: Lightning or Transformers, at many learning rates."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Protocol

from edgescope.atomic import write_file
from edgescope.cli.sweep_folder import sweep_in
from edgescope.description import SWEEP, is_taken
from edgescope.errors import InputError, RecordError

ALLOWED: Final = ("function", "lr", "seed", "seeds", "jobs", "cluster", "out", "resume", "module")
"""Options of ``edgescope sweep`` that a trainer of the user's does not decide."""


class TrainerOptions(Protocol):
    """The options of the command ``edgescope sweep`` that count here."""

    @property
    def function(self) -> str | None: ...
    @property
    def lr(self) -> str | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def seeds(self) -> int: ...
    @property
    def jobs(self) -> int | None: ...
    @property
    def cluster(self) -> str | None: ...
    @property
    def resume(self) -> bool: ...
    @property
    def module(self) -> tuple[str, ...]: ...

    def again(self, out: Path) -> str:
        """The command that continues this one."""


@dataclass(frozen=True)
class TrainerSweep:
    """What the folder of such a sweep says of it: the function, its learning rates, and its seeds."""

    function: str
    lrs: tuple[float, ...]
    seed: int
    seeds: int

    @classmethod
    def read(cls, folder: Path) -> TrainerSweep | None:
        """That of a folder; None where there is no sweep, RecordError for one of another kind."""
        found = sweep_in(folder)
        if found is None:
            return None
        entries: Any = found.get("trainer")
        try:
            return cls(
                str(entries["function"]), tuple(map(float, entries["lrs"])), int(entries["seed"]), int(entries["seeds"])
            )
        except (KeyError, TypeError, ValueError):
            raise RecordError(
                f"{folder / SWEEP} does not describe a sweep of a trainer", hint="another --out for a new sweep"
            ) from None

    def write(self, folder: Path) -> None:
        """Store it in ``folder``."""
        entries = {"function": self.function, "lrs": self.lrs, "seed": self.seed, "seeds": self.seeds}
        write_file(folder / SWEEP, json.dumps({"trainer": entries}))

    def extended(self, asked: TrainerSweep, folder: Path) -> TrainerSweep:
        """This sweep with the learning rates and seeds that ``asked`` has beyond it; RecordError for another one."""
        for name in ("function", "seed"):
            if getattr(self, name) != getattr(asked, name):
                raise RecordError(
                    f"{folder} does not hold a sweep with these options"
                    f" ({name} = {getattr(self, name)} there, {getattr(asked, name)} here)",
                    hint="the same options, with more rates or seeds, or another --out",
                )
        return replace(self, lrs=tuple(sorted({*self.lrs, *asked.lrs})), seeds=max(self.seeds, asked.seeds))


def sweep_trainer(command: TrainerOptions, out: Path) -> int:
    """Run the sweep that ``command`` asks for in ``out``, and report it; the exit code."""
    from joblib import cpu_count

    from edgescope.cli.progress import ProgressLine
    from edgescope.cli.sweep_failures import ended, interrupted
    from edgescope.cli.sweep_report import report_sweep
    from edgescope.sweep import check_cluster, check_jobs, rates, run_tasks, trainer_tasks
    from edgescope.sweep.owner import owned

    function = command.function
    assert function is not None
    _refuse_other_options(command)
    earlier = TrainerSweep.read(out) if command.resume and out.is_dir() else None
    if command.lr is None and earlier is None:
        raise InputError("a sweep of a trainer without learning rates", expected="--lr", hint="--lr 1e-4:0.1:13log")
    lrs = tuple(rates(command.lr)) if command.lr is not None else ()
    content = TrainerSweep(function, lrs, command.seed, command.seeds)
    if command.jobs is not None:
        check_jobs(command.jobs)
    if is_taken(out) and earlier is None:
        hint = "another --out" if command.resume else "--resume to continue there, or another --out"
        raise RecordError(f"{out} is not empty", hint=hint)
    if earlier is not None:
        content = earlier.extended(content, out)
    if command.cluster is not None:
        check_cluster(command.cluster)
    tasks = trainer_tasks(function, content.lrs, range(content.seed, content.seed + content.seeds))
    with owned(out) as owner:
        content.write(out)
        try:
            with ProgressLine("sweep") as line:
                outcomes = run_tasks(
                    tasks,
                    out,
                    jobs=cpu_count() if command.jobs is None else command.jobs,
                    cluster=command.cluster,
                    resume=command.resume,
                    progress=line,
                    modules=command.module,
                    owner=owner,
                )
        except KeyboardInterrupt:
            return interrupted("the runs that have ended are kept", command.again(out))
        if any(outcome.status != "failed" for outcome in outcomes):
            report_sweep(out)
    return ended(outcomes, command.again(out))


def _refuse_other_options(command: Any) -> None:
    """Raise :class:`InputError` for an option whose value the user's function has instead."""
    for option in fields(command):
        if option.name not in ALLOWED and getattr(command, option.name) != option.default:
            raise InputError(
                f"--{option.name.replace('_', '-')} for '{command.function}', a function of lr that returns a trainer",
                expected="only --lr, --seed, --seeds, --jobs, --cluster, --out and --resume",
                hint="all else in that function",
            )
