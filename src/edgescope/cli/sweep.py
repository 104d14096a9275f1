"""``edgescope sweep``: the norm-sharpness trade-off of one model across learning rates."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.sweep_folder import SweepContent, reopen_shorter
from edgescope.description import is_taken, lost_description
from edgescope.errors import InputError, RecordError
from edgescope.options import check_int, shown
from edgescope.printable import shell_quoted

if TYPE_CHECKING:
    from edgescope.store.lock import RunLock
    from edgescope.sweep import Outcome
    from edgescope.training import RunConfig

FLOW = "flow"

STEPS = 10_000
"""The maximum number of steps of a run where none is given."""

AROUND = "15log"
"""Number and spacing of the learning rates from 0.1 to 10 times the critical one."""


@dataclass(frozen=True)
class Sweep(Command):
    """Show the norm-sharpness trade-off across learning rates: train one model at many, to the same training loss.

    Gradient flow from the same initialization gives the critical learning rate, 2 over its largest sharpness. Below it
    gradient descent follows the flow. Above it the sharpness settles at 2/lr, the norm grows, and the test loss often
    has its minimum. With an optimizer other than SGD, weight decay, clipping or a schedule, the regimes do not follow
    from gradient flow, and are the verdicts on each run. The report has the best learning rate, with the interval of
    rates that are as good. Runs that diverge or do not reach the training loss are marked in the figures. After Ctrl-C
    the sweep can be continued with --resume; a finished sweep is extended by --resume with more rates, seeds or steps.

    FUNCTION is a Python function of yours, as module:function, without arguments. It returns (model, loss_fn,
    data), (model, loss_fn, data, test), or a dict with these keys and optionally stop_loss: the initialized model,
    a function loss_fn(model, batch) that returns the mean loss of a batch (or a criterion of torch), and the data
    as edgescope.Objective accepts them. Without FUNCTION, data, model and loss are given by name (see 'edgescope
    list'). A FUNCTION with an argument lr, and seed where it wants it, returns what is trained with Lightning,
    (module, data) or (module, data, test), or a transformers.Trainer; it decides all but the learning rates and
    seeds.

    Examples:
      edgescope sweep mymodule:make_run --lr 1e-3:1:25log
      edgescope sweep --data digits --model mlp:widths=50 --lr 0.01:1:15log --stop-loss 0.05 --jobs 2
      edgescope sweep mymodule:make_run --optimizer adamw --lr 1e-4:0.1:9log --steps 1000 --equal-steps --seeds 3
    """

    function: Annotated[Positional[str | None], arg(metavar="[FUNCTION]"), NoDefault] = None
    """module:function that returns model, loss function and data; by default those given by name below"""
    lr: Annotated[str | None, NoDefault] = None
    """learning rates, such as 0.01,0.1 or 1e-3:1:25log; by default 15 from 0.1 to 10 times the critical one. With
    --resume, new ones are added to those of the sweep"""
    optimizer: str = "sgd"
    """optimizer by name with its options, such as sgd:momentum=0.9 or adamw:weight_decay=0.1, or two joined by +, such
    as muon+adamw; an lr of its own that one of two has stays the same in all runs"""
    schedule: str = "constant"
    """learning-rate schedule by name: constant, cosine, linear, or a warm-up such as warmup:steps=100,then=cosine;
    those that decrease do so over --steps"""
    clip: Annotated[float | None, NoDefault] = None
    """largest norm of the gradient; by default gradients are not clipped"""
    stop_loss: Annotated[float | None, NoDefault] = None
    """training loss at which a run stops; by default that of FUNCTION, or a tenth of the initial loss"""
    equal_steps: Annotated[bool, NoDefault] = False
    """train every run for all of --steps; by default runs stop at --stop-loss"""
    steps: Annotated[int | None, NoDefault] = None
    """maximum number of steps of each run; by default 10000, or as many as the sweep that is resumed. With --resume, a
    larger number continues the runs that it cut off"""
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
    widths: Annotated[str | None, NoDefault] = None
    """widths of the network, such as 32,64,128: every learning rate is trained at each, and the report says whether the
    best one transfers. FUNCTION is called with the argument width; a model by name needs an option width or widths.
    Requires --lr and --equal-steps"""
    seed: int = 0
    """random seed of the initial parameters, which all learning rates share, and of the mini-batches"""
    seeds: int = 1
    """number of seeds, from --seed on, with which every learning rate is trained"""
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
    batched: Literal["auto", "always", "never"] = "auto"
    """whether runs of small networks are trained in one batch; such runs cannot be given more steps later"""
    out: Annotated[Path | None, NoDefault] = None
    """output folder for runs and report; by default runs/sweep-FUNCTION or runs/sweep-DATA-MODEL"""
    resume: Annotated[bool, NoDefault] = False
    """continue an earlier call with the same options and output folder, or extend it by rates, seeds or steps"""
    module: Modules = ()

    def run(self) -> int:
        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.sweep_failures import ended, interrupted
        from edgescope.cli.sweep_report import report_sweep
        from edgescope.cli.sweep_trainer import sweep_trainer
        from edgescope.sweep.owner import owned
        from edgescope.sweep.trainer_task import takes_lr

        keep_freed_memory()
        check_int("a sweep", "seeds", self.seeds, least=1)
        out = self.out or Path("runs") / f"sweep-{self._name()}"
        if out.exists() and not out.is_dir():
            raise RecordError(f"{out} is a file", expected="a folder", hint="another --out")
        if self.function is not None and takes_lr(self.function):
            return sweep_trainer(self, out)
        earlier = SweepContent.read(out) if self.resume and out.is_dir() else None
        asked = self._asked(earlier)
        with owned(out) as owner:
            content = self._claim(out, asked, earlier)
            try:
                outcomes = self._runs(content, out, owner)
            except KeyboardInterrupt:
                return interrupted("all measurements so far are kept", self.again(out))
            if any(outcome.status != "failed" and not _is_flow(outcome.name) for outcome in outcomes):
                report_sweep(out)
        return ended(outcomes, self.again(out))

    def _asked(self, earlier: SweepContent | None) -> SweepContent:
        """What this call asks for; InputError for what cannot be used."""
        from edgescope.sweep import rates
        from edgescope.training.stability_factor import stability_factor

        lr, widths = self.lr, self._widths()
        if lr is not None:
            rates(lr)
        if widths and not self.equal_steps:
            raise InputError("--widths without --equal-steps", expected="runs of equally many steps at every width")
        base = self._base(earlier, widths)
        if lr is None and earlier is not None:
            lr = earlier.lr
        if lr is None and widths:
            raise InputError("--widths without --lr", expected="the learning rates to be compared at every width")
        if lr is None and stability_factor(self.optimizer) is None:
            raise InputError(
                f"a sweep of {self.optimizer} without learning rates",
                expected="--lr, since gradient flow has no critical learning rate for this optimizer",
                hint="--lr 1e-4:0.1:13log",
            )
        return SweepContent(base.as_dict(), lr, (), self.seeds, self.equal_steps, widths)

    def _widths(self) -> tuple[int, ...]:
        if self.widths is None:
            return ()
        pieces = [piece.strip() for piece in self.widths.split(",")]
        found = tuple(sorted({int(piece) for piece in pieces if piece.isascii() and piece.isdecimal()}))
        if not len(found) == len(pieces) >= 2 or found[0] < 1:
            raise InputError(f"widths {shown(self.widths)}", expected="two or more different ones, such as 32,64,128")
        return found

    def _base(self, earlier: SweepContent | None, widths: tuple[int, ...]) -> RunConfig:
        """What all runs have in common, its threshold found; InputError for what cannot be used."""
        from edgescope.optim import plan_optimizers
        from edgescope.optim.named import NamedGradientFlow
        from edgescope.training import Parts, RunConfig, flow_of
        from edgescope.training.gradients import has_dropout
        from edgescope.training.stability_factor import stability_factor
        from edgescope.training.width_transfer import at_width
        from edgescope.user_code import wrap_user_errors

        if isinstance(plan_optimizers(self.optimizer).named[0], NamedGradientFlow):
            raise InputError("a sweep of gradient flow", expected="an optimizer with a learning rate")
        sizes = [at_width(self.model, self.function, width) for width in widths] or [{}]
        own = {field.name for field in dataclasses.fields(RunConfig)} & {f.name for f in dataclasses.fields(self)}
        options = {name: getattr(self, name) for name in own - {"lr", "stop_loss", "steps"}} | sizes[0]
        steps = self.steps
        if steps is None:
            before = None if earlier is None else earlier.base.get("steps")
            steps = before if isinstance(before, int) else STEPS
        base = RunConfig(**options, steps=steps, every=max(10, steps // 200), checkpoint_every=max(500, steps // 10))
        # The device of a cluster's workers need not be on this machine.
        parts = Parts(base if self.cluster is None else dataclasses.replace(base, device=None))
        for size in sizes[1:]:
            Parts(dataclasses.replace(parts.config, **size), like=parts)
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
        with_flow = stability_factor(self.optimizer) is not None and not widths
        if with_flow:
            Parts(flow_of(base), like=parts)  # a fault there is told before anything runs
        if has_dropout(parts.model):
            where = "gradient flow and in all measurements" if with_flow else "all measurements"
            say(f"edgescope: dropout is switched off in {where}", file=sys.stderr)
        return base

    def _name(self) -> str:
        if self.function is not None:
            return self.function.replace(":", "-")
        return "-".join(spec.partition(":")[0] for spec in (self.data, self.model))

    def _claim(self, out: Path, asked: SweepContent, earlier: SweepContent | None) -> SweepContent:
        """What the sweep in ``out`` is to be, with the folder prepared for it."""
        from edgescope.sweep import check_cluster, check_jobs

        if self.jobs is not None:
            check_jobs(self.jobs)
        if is_taken(out):
            if not self.resume:
                raise RecordError(f"{out} is not empty", hint="--resume to continue there, or another --out")
            if earlier is None and not lost_description(out):
                raise RecordError(f"{out} does not hold a sweep with these options", hint="another --out")
        content = asked if earlier is None else earlier.extended(asked, out)
        if self.cluster is not None:
            check_cluster(self.cluster)
        if earlier is not None and content.base["steps"] != earlier.base["steps"]:
            reopen_shorter(out, content.base["steps"])
        if content != earlier:
            content.write(out)
        return content

    def _runs(self, content: SweepContent, out: Path, owner: RunLock) -> list[Outcome]:
        """Carry out flow, which says what rates are to be tried where none are given, and descent at each."""
        from edgescope.sweep import rates
        from edgescope.training import RunConfig, descent_at, flow_of
        from edgescope.training.stability_factor import factor_of_run, stability_factor
        from edgescope.training.to_threshold import AT_THE_END, FOR_A_VERDICT
        from edgescope.training.width_transfer import at_width

        base = RunConfig(**content.base, device=self.device)
        flows, descents = {}, {}
        factor = None if content.widths else stability_factor(base.optimizer)
        seeds = range(base.seed, base.seed + content.seeds)
        for seed in seeds if factor is not None else ():
            flows[_named(FLOW, seed, base.seed)] = flow_of(dataclasses.replace(base, seed=seed))
        outcomes: list[Outcome] = []
        if content.lr is not None:
            chosen = rates(content.lr)
        else:
            assert factor is not None
            outcomes = self._run_all({FLOW: flows[FLOW]}, out, owner)
            chosen = _around_critical(out, outcomes[0], factor)
        by_flow = factor is not None and factor_of_run(base.as_dict()) is not None
        measures = AT_THE_END if by_flow else FOR_A_VERDICT
        stop = None if content.equal_steps else base.stop_loss
        sizes = {f"width{width}-": at_width(self.model, self.function, width) for width in content.widths} or {"": {}}
        for lr, seed, (size, option) in product(sorted({*chosen, *content.added}), seeds, sizes.items()):
            config = dataclasses.replace(descent_at(base, lr, measures), seed=seed, stop_loss=stop, **option)
            descents[_named(f"{size}lr{lr:g}", seed, base.seed)] = config
        return self._run_all(flows | descents, out, owner, resume=self.resume or bool(outcomes))

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
                batched=self.batched,
                resume=resume or self.resume,
                progress=line,
                modules=self.module,
                owner=owner,
            )
        return list(outcomes.values())

    def again(self, out: Path) -> str:
        """The command that continues this one."""
        words = ["edgescope", "sweep", *([self.function] if self.function else [])]
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.name not in ("function", "out", "resume", "module") and value != option.default:
                words += [f"--{option.name.replace('_', '-')}", *([] if value is True else [str(value)])]
        words += [word for name in self.module for word in ("--module", name)]
        return shell_quoted([*words, "--out", str(out), "--resume"])


def _named(run: str, seed: int, first: int) -> str:
    """The name of a run: the first seed is not named, so that others can be added to a finished sweep."""
    return run if seed == first else f"{run}-seed{seed}"


def _is_flow(name: str) -> bool:
    return name == FLOW or name.startswith(f"{FLOW}-seed")


def _around_critical(out: Path, outcome: Outcome, factor: float) -> list[float]:
    from edgescope.store import Record
    from edgescope.sweep import rates
    from edgescope.training import FlowEnd

    if outcome.status == "failed":
        raise InputError(
            f"gradient flow gave no critical learning rate ({outcome.error})", hint="choosing learning rates with --lr"
        )
    with Record.open(out / "runs" / FLOW) as record:
        critical = FlowEnd.of(record).critical_for(factor)
    return rates(f"{critical / 10:.3g}:{critical * 10:.3g}:{AROUND}")
