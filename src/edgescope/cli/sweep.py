"""``edgescope sweep``: the norm-sharpness trade-off of one model across learning rates."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from edgescope.atomic import write_file
from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.failure import FAILED, INTERRUPTED
from edgescope.cli.say import say
from edgescope.description import SWEEP, is_taken, lost_description, read_description
from edgescope.errors import InputError, RecordError
from edgescope.printable import shell_quoted

if TYPE_CHECKING:
    from edgescope.store.lock import RunLock
    from edgescope.sweep import Outcome
    from edgescope.training import RunConfig

FLOW = "flow"

AROUND = "15log"
"""Number and spacing of the learning rates from 0.1 to 10 times the critical one."""


@dataclass(frozen=True)
class Sweep(Command):
    """Show the norm-sharpness trade-off across learning rates: train one model at many, to the same training loss.

    Gradient flow from the same initialization gives the critical learning rate, 2 over its largest sharpness. Below it
    gradient descent follows the flow. Above it the sharpness settles at 2/lr, the norm grows, and the test loss often
    has its minimum. Runs that diverge or do not reach the training loss are marked in the figures. After Ctrl-C the
    sweep can be continued with --resume.

    FUNCTION is a Python function of yours, as module:function, without arguments. It returns (model, loss_fn, data),
    (model, loss_fn, data, test), or a dict with these keys and optionally stop_loss: the initialized model, a function
    loss_fn(model, batch) that returns the mean loss of a batch, and the data as edgescope.Objective accepts them.
    Without FUNCTION, data, model and loss are given by name (see 'edgescope list').

    Examples:
      edgescope sweep mymodule:make_run --lr 1e-3:1:25log
      edgescope sweep --data digits --model mlp:widths=50 --lr 0.01:1:15log --stop-loss 0.05 --jobs 2
    """

    function: Annotated[Positional[str | None], arg(metavar="[FUNCTION]"), NoDefault] = None
    """module:function that returns model, loss function and data; by default those given by name below"""
    lr: Annotated[str | None, NoDefault] = None
    """learning rates, such as 0.01,0.1 or 1e-3:1:25log; by default 15 from 0.1 to 10 times the critical one"""
    stop_loss: Annotated[float | None, NoDefault] = None
    """training loss at which a run stops; by default that of FUNCTION, or a tenth of the initial loss"""
    steps: int = 10_000
    """maximum number of steps of each run"""
    batch: Annotated[int | None, NoDefault] = None
    """mini-batch size; by default the full batch"""
    data: str = "fashion-5k"
    """data set by name"""
    model: str = "mlp"
    """model by name"""
    loss: str = "mse"
    """loss by name"""
    mode: Literal["auto", "eval", "train", "batch-statistics"] = "auto"
    """how the model computes while it is measured; auto uses batch statistics if training does, without dropout"""
    train: Annotated[int | None, NoDefault] = None
    """number of training samples; by default all"""
    test: Annotated[int | None, NoDefault] = None
    """number of test samples; by default all"""
    seed: int = 0
    """random seed of the initial parameters, which all runs share, and of the mini-batches"""
    dtype: str = "float32"
    """float32 or float64; a model returned by FUNCTION keeps its own"""
    threads: Annotated[int | None, NoDefault] = None
    """number of CPU threads of each run; by default the fastest, found by timing"""
    path: Annotated[str | None, NoDefault] = None
    """method for Hessian products; by default the fastest, found by timing"""
    device: Annotated[str | None, NoDefault] = None
    """where to train and to measure: cpu, cuda, cuda:1; by default the CPU, or where FUNCTION puts the
    model. With cuda and several jobs, runs are spread over all cards"""
    jobs: Annotated[int | None, NoDefault] = None
    """number of runs at the same time; by default the number of cores"""
    cluster: Annotated[str | None, NoDefault] = None
    """address of a running Dask scheduler; its workers then do the runs"""
    out: Annotated[Path | None, NoDefault] = None
    """output folder for runs and report; by default runs/sweep-FUNCTION or runs/sweep-DATA-MODEL"""
    resume: Annotated[bool, NoDefault] = False
    """continue an earlier call with the same options and output folder"""
    module: Modules = ()

    def run(self) -> int:
        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.sweep_report import report_sweep
        from edgescope.sweep.owner import owned

        keep_freed_memory()
        base = self._base()
        chosen = self._rates()
        out = self.out or Path("runs") / f"sweep-{self._name()}"
        described: dict[str, object] = {"base": base.as_dict(), "lr": self.lr}
        if out.exists() and not out.is_dir():
            raise RecordError(f"{out} is a file", expected="a folder", hint="another --out")
        with owned(out) as owner:
            self._claim(out, described)
            try:
                outcomes = self._runs(base, chosen, out, owner)
            except KeyboardInterrupt:
                say(
                    "interrupted; all measurements so far are kept. To continue:",
                    f"  {self._again(out)}",
                    file=sys.stderr,
                )
                return INTERRUPTED
            failed = [outcome for outcome in outcomes if outcome.status == "failed"]
            if {outcome.name for outcome in outcomes} - {outcome.name for outcome in failed} - {FLOW}:
                report_sweep(out)
        _tell_of(failed)
        if failed:
            say(
                f"{len(failed)} of {len(outcomes)} runs failed. To retry them:",
                f"  {self._again(out)}",
                file=sys.stderr,
            )
        return FAILED if failed else 0

    def _base(self) -> RunConfig:
        """What all runs have in common, its threshold found; InputError for what cannot be used."""
        from edgescope.training import Parts, RunConfig, flow_of
        from edgescope.training.gradients import has_dropout
        from edgescope.user_code import wrap_user_errors

        own = {field.name for field in dataclasses.fields(RunConfig)} & {f.name for f in dataclasses.fields(self)}
        options = {name: getattr(self, name) for name in own - {"lr", "stop_loss"}}
        every = max(10, self.steps // 200)
        base = RunConfig(**options, every=every, checkpoint_every=max(500, self.steps // 10))
        # The device of a cluster's workers need not be on this machine.
        parts = Parts(base if self.cluster is None else dataclasses.replace(base, device=None))
        with wrap_user_errors("the initial training loss"):
            objective = parts.objective(parts.samples, parts.mode, threads=self.threads or 1)
            slope, start = objective.gradient(), float(objective.loss())
        if not (math.isfinite(start) and bool(slope.isfinite().all())):
            raise InputError(
                f"the initial training loss is {start:g} or its gradient is not finite",
                expected="data and parameters without NaN and infinity",
            )
        stop = self.stop_loss if self.stop_loss is not None else parts.stop_loss
        if stop is None:
            stop = float(f"{start / 10:.4g}")
        if start <= stop:
            raise InputError(
                f"the initial training loss, {start:.4g}, is not above the loss {stop:g} at which runs stop",
                hint="a lower --stop-loss",
            )
        base = dataclasses.replace(base, stop_loss=stop)
        Parts(flow_of(base), like=parts)  # a fault there is told before anything runs
        if has_dropout(parts.model):
            say("edgescope: dropout is switched off in gradient flow and in all measurements", file=sys.stderr)
        return base

    def _rates(self) -> list[float]:
        from edgescope.sweep import rates

        return [] if self.lr is None else rates(self.lr)

    def _name(self) -> str:
        if self.function is not None:
            return self.function.replace(":", "-")
        return "-".join(spec.partition(":")[0] for spec in (self.data, self.model))

    def _claim(self, out: Path, described: dict[str, object]) -> None:
        from edgescope.sweep import check_cluster, check_jobs

        if self.jobs is not None:
            check_jobs(self.jobs)
        if is_taken(out):
            if not self.resume:
                raise RecordError(f"{out} is not empty", hint="--resume to continue there, or another --out")
            if not lost_description(out) and sweep_in(out) != json.loads(json.dumps(described)):
                raise RecordError(
                    f"{out} does not hold a sweep with these options", hint="the same options, or another --out"
                )
        if self.cluster is not None:
            check_cluster(self.cluster)
        if sweep_in(out) is None:
            write_file(out / SWEEP, json.dumps(described))

    def _runs(self, base: RunConfig, rates: list[float], out: Path, owner: RunLock) -> list[Outcome]:
        """Carry out flow, which says what rates are to be tried where none are given, and descent at each."""
        from edgescope.training import descent_at, flow_of

        outcomes: list[Outcome] = []
        if not rates:
            outcomes = self._run_all({FLOW: flow_of(base)}, out, owner)
            rates = _around_critical(out, outcomes[0])
        runs = {FLOW: flow_of(base)} | {f"lr{lr:g}": descent_at(base, lr) for lr in rates}
        return self._run_all(runs, out, owner, resume=self.resume or bool(outcomes))

    def _run_all(self, runs: dict[str, RunConfig], out: Path, owner: RunLock, resume: bool = False) -> list[Outcome]:
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
                owner=owner,
            )
        return list(outcomes.values())

    def _again(self, out: Path) -> str:
        words = ["edgescope", "sweep", *([self.function] if self.function else [])]
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.name not in ("function", "out", "resume", "module") and value != option.default:
                words += [f"--{option.name.replace('_', '-')}", str(value)]
        words += [word for name in self.module for word in ("--module", name)]
        return shell_quoted([*words, "--out", str(out), "--resume"])


def _tell_of(failed: list[Outcome]) -> None:
    """A line for each reason, with the first run that has it."""
    reasons: dict[str | None, list[Outcome]] = {}
    for outcome in failed:
        reasons.setdefault(outcome.error, []).append(outcome)
    for error, runs in reasons.items():
        others = f", and {len(runs) - 1} more for the same reason" if len(runs) > 1 else ""
        say(f"edgescope: run '{runs[0].name}' failed ({error}){others}; see {runs[0].folder}", file=sys.stderr)


def sweep_in(folder: Path) -> dict[str, object] | None:
    """What a folder says of the sweep in it; None where there is none, RecordError where that is damaged."""
    return read_description(folder / SWEEP)


def _around_critical(out: Path, outcome: Outcome) -> list[float]:
    from edgescope.store import Record
    from edgescope.sweep import rates
    from edgescope.training import FlowEnd

    if outcome.status == "failed":
        raise InputError(
            f"gradient flow gave no critical learning rate ({outcome.error})", hint="choosing learning rates with --lr"
        )
    with Record.open(out / "runs" / FLOW) as record:
        critical = FlowEnd.of(record).critical_lr
    return rates(f"{critical / 10:.3g}:{critical * 10:.3g}:{AROUND}")
