"""``edgescope sweep``: one model at many learning rates, and what they trade."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.failure import FAILED, INTERRUPTED
from edgescope.errors import InputError, RecordError

if TYPE_CHECKING:
    from edgescope.sweep import Outcome
    from edgescope.training import RunConfig

DESCRIPTION = "sweep.json"
FLOW = "flow"

AROUND = "15log"
"""Rates from a tenth to ten times the critical one."""


@dataclass(frozen=True)
class Sweep(Command):
    """Train one model at many learning rates, down to the same training loss, and show what the rate trades.

    Gradient flow from the same initialisation gives the critical rate, 2 over its largest sharpness: below it descent
    follows the flow, above it sharpness settles at 2/rate, the norm grows, and the test loss often has its least. A
    rate that diverges is a point on the picture, one that does not reach the loss is marked. Ctrl-C leaves what can be
    resumed.

    FUNCTION is module:function of your own. It takes no arguments and returns (model, loss_fn, data),
    (model, loss_fn, data, test), or a dict with these names and stop_loss: the model as it is initialised, a function
    loss_fn(model, batch) that gives the mean loss of a batch, and data as edgescope.Objective takes them. Without it,
    data, model and loss are names, as 'edgescope list' shows them.

    Examples:
      edgescope sweep mymodule:make_run --lr 1e-3:1:25log
      edgescope sweep --data digits --model mlp:widths=50 --lr 0.01:1:15log --stop-loss 0.05 --jobs 2
    """

    function: Annotated[Positional[str | None], arg(metavar="[FUNCTION]"), NoDefault] = None
    """module:function that makes model, loss function and data; by default those named below"""
    lr: Annotated[str | None, NoDefault] = None
    """rates, such as 0.01,0.1 or 1e-3:1:25log; by default 15 from a tenth to ten times the critical rate"""
    stop_loss: Annotated[float | None, NoDefault] = None
    """training loss at which a run stops; by default the function's, or a tenth of the loss at the start"""
    steps: int = 10_000
    """steps at most"""
    batch: Annotated[int | None, NoDefault] = None
    """samples in a mini-batch; by default all, at every step"""
    data: str = "fashion-5k"
    """data set by name"""
    model: str = "mlp"
    """model by name"""
    loss: str = "mse"
    """loss by name"""
    train: Annotated[int | None, NoDefault] = None
    """training samples to use; by default all"""
    test: Annotated[int | None, NoDefault] = None
    """test samples to use; by default all"""
    seed: int = 0
    """of the initial parameters, which all runs share, and of mini-batches"""
    dtype: str = "float32"
    """float32 or float64; a model of your own keeps its own"""
    threads: Annotated[int | None, NoDefault] = None
    """threads of each run; by default timed"""
    path: Annotated[str | None, NoDefault] = None
    """how Hessian products are computed; by default timed"""
    jobs: Annotated[int | None, NoDefault] = None
    """runs side by side; by default as many as there are cores"""
    cluster: Annotated[str | None, NoDefault] = None
    """address of a running Dask scheduler, whose workers carry out the runs instead"""
    out: Annotated[Path | None, NoDefault] = None
    """folder for runs and report; by default runs/sweep-FUNCTION or runs/sweep-DATA-MODEL"""
    resume: Annotated[bool, NoDefault] = False
    """continue what an earlier call with the same options left in that folder"""
    module: Modules = ()

    def run(self) -> int:
        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.sweep_report import report_sweep
        from edgescope.training import descent_at, flow_of

        keep_freed_memory()
        base = self._base()
        chosen = self._rates()
        out = self.out or Path("runs") / f"sweep-{self._name()}"
        described: dict[str, object] = {"base": base.as_dict(), "lr": self.lr}
        self._claim(out, described)
        try:
            outcomes: list[Outcome] = []
            if not chosen:
                outcomes = self._carry_out({FLOW: flow_of(base)}, out)
                chosen = _around_critical(out, outcomes[0])
            runs = {FLOW: flow_of(base)} | {f"lr{lr:g}": descent_at(base, lr) for lr in chosen}
            outcomes = self._carry_out(runs, out, resume=self.resume or bool(outcomes))
        except KeyboardInterrupt:
            print(f"interrupted; what was measured is kept. To continue:\n  {self._again(out)}", file=sys.stderr)
            return INTERRUPTED
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        if {outcome.name for outcome in outcomes} - {outcome.name for outcome in failed} - {FLOW}:
            report_sweep(out)
        _tell_of(failed)
        if failed:
            print(f"To try {len(failed)} of {len(outcomes)} again:\n  {self._again(out)}", file=sys.stderr)
        return FAILED if failed else 0

    def _base(self) -> RunConfig:
        """What all runs have in common, its threshold found; InputError for what cannot be used."""
        from edgescope.training import Parts, RunConfig
        from edgescope.user_code import told

        own = {field.name for field in dataclasses.fields(RunConfig)} & {f.name for f in dataclasses.fields(self)}
        options = {name: getattr(self, name) for name in own - {"lr", "stop_loss"}}
        every = max(10, self.steps // 200)
        base = RunConfig(**options, every=every, checkpoint_every=max(500, self.steps // 10))
        parts = Parts(base)
        with told("the training loss at the start"):
            objective = parts.objective(parts.samples, parts.mode, threads=self.threads or 1)
            slope, start = objective.gradient(), float(objective.loss())
        if not (math.isfinite(start) and bool(slope.isfinite().all())):
            raise InputError(
                f"the training loss at the start is {start:g}, or its gradient not finite",
                expected="data and parameters without NaN and infinity",
            )
        stop = self.stop_loss if self.stop_loss is not None else parts.stop_loss
        if stop is None:
            stop = float(f"{start / 10:.4g}")
        if start <= stop:
            raise InputError(
                f"the training loss at the start, {start:.4g}, is not above the threshold {stop:g}",
                hint="a lower --stop-loss",
            )
        return dataclasses.replace(base, stop_loss=stop)

    def _rates(self) -> list[float]:
        from edgescope.sweep import rates

        return [] if self.lr is None else rates(self.lr)

    def _name(self) -> str:
        if self.function is not None:
            return self.function.replace(":", "-")
        return "-".join(spec.partition(":")[0] for spec in (self.data, self.model))

    def _claim(self, out: Path, described: dict[str, object]) -> None:
        from edgescope.store.database import faults
        from edgescope.sweep import check_cluster, check_jobs

        if self.jobs is not None:
            check_jobs(self.jobs)
        if out.exists() and not out.is_dir():
            raise RecordError(f"{out} is a file", expected="a folder", hint="another --out")
        if out.exists() and any(out.iterdir()):
            if not self.resume:
                raise RecordError(f"{out} is not empty", hint="--resume to continue there, or another --out")
            if sweep_in(out) != json.loads(json.dumps(described)):
                raise RecordError(f"{out} holds no sweep with these options", hint="the same options, or another --out")
        if self.cluster is not None:
            check_cluster(self.cluster)
        with faults(out):
            out.mkdir(parents=True, exist_ok=True)
            (out / DESCRIPTION).write_text(json.dumps(described), encoding="utf-8")

    def _carry_out(self, runs: dict[str, RunConfig], out: Path, resume: bool = False) -> list[Outcome]:
        from joblib import cpu_count

        from edgescope.cli.progress import ProgressLine
        from edgescope.sweep import run

        with ProgressLine("sweep") as line:
            outcomes = run(
                runs,
                out,
                jobs=cpu_count() if self.jobs is None else self.jobs,
                cluster=self.cluster,
                resume=resume or self.resume,
                progress=line,
                modules=self.module,
            )
        return list(outcomes.values())

    def _again(self, out: Path) -> str:
        words = ["edgescope", "sweep", *([self.function] if self.function else [])]
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.name not in ("function", "out", "resume", "module") and value != option.default:
                words += [f"--{option.name.replace('_', '-')}", str(value)]
        words += [word for name in self.module for word in ("--module", name)]
        return shlex.join([*words, "--out", str(out), "--resume"])


def _tell_of(failed: list[Outcome]) -> None:
    """A line for each reason, with the first run that has it."""
    reasons: dict[str | None, list[Outcome]] = {}
    for outcome in failed:
        reasons.setdefault(outcome.error, []).append(outcome)
    for error, runs in reasons.items():
        others = f", and {len(runs) - 1} more for the same reason" if len(runs) > 1 else ""
        print(f"edgescope: run '{runs[0].name}' failed ({error}){others}; see {runs[0].folder}", file=sys.stderr)


def sweep_in(folder: Path) -> dict[str, object] | None:
    """What a folder says of the sweep in it; None where there is none."""
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _around_critical(out: Path, outcome: Outcome) -> list[float]:
    from edgescope.store import Record
    from edgescope.sweep import rates
    from edgescope.training import FlowEnd

    if outcome.status == "failed":
        raise InputError(f"gradient flow gave no critical rate ({outcome.error})", hint="--lr with rates of your own")
    with Record.open(out / "runs" / FLOW) as record:
        critical = FlowEnd.of(record).critical_lr
    return rates(f"{critical / 10:.3g}:{critical * 10:.3g}:{AROUND}")
