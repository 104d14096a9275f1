"""The configuration of a training run, checked before anything is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from edgescope.data import DATA
from edgescope.errors import InputError
from edgescope.losses import LOSSES
from edgescope.models import MODELS
from edgescope.monitor.order import in_order
from edgescope.objective.checks import check_device_name
from edgescope.objective.modes import Mode
from edgescope.objective.plan import PathName
from edgescope.optim import plan_optimizers
from edgescope.optim.named import NamedGradientFlow
from edgescope.options import check_fields, choice, each, integer, optional, real, shown, text
from edgescope.short_errors import short_errors
from edgescope.training.decay_schedules import DECAY_SCHEDULES, ConstantDecay
from edgescope.training.schedules import SCHEDULES, ConstantSchedule

OWNER = "a run"
"""The owner of these options in error messages."""

MOST_THREADS = 1024
"""The largest number of threads; operating systems may kill a process that asks for more."""

MEASURED = (
    "loss",
    "accuracy",
    "gradient_norm",
    "sharpness",
    "effective_sharpness",
    "threshold",
    "ratio",
    "directional_smoothness",
    "norms",
    "time",
)

NAMED = ("data", "model", "loss", "train", "test", "dtype")
"""Options that a user function replaces."""


@short_errors
@dataclass(frozen=True)
class RunConfig:
    """The configuration of a training run. Data, model, loss, optimizer and measures are given by name with options,
    such as ``mlp:widths=200x200,activation=tanh``.

    Args:
        data: data set by name
        model: model by name
        loss: loss by name
        mode: how the model computes while it is measured: auto, eval, train or batch-statistics; auto uses batch
            statistics if the model uses them in training, and switches dropout off
        optimizer: optimizer by name; or two joined by +, such as muon+adamw, the first for all matrices and the second
            for all other parameters, each with a learning rate of its own where it has the option lr
        lr: learning rate; ignored by gradient flow
        schedule: learning-rate schedule by name: constant, cosine, linear, or a warm-up such as
            warmup:steps=100,then=cosine; it multiplies lr, over all of steps
        decay_schedule: weight decay over the steps, by name: constant, or knots:steps=0x500,decays=0x0.1, which takes
            the place of the optimizer's weight_decay
        clip: largest norm of the gradient of all parameters together; longer ones are scaled down to it before the
            optimizer receives them
        steps: maximum number of optimizer steps
        batch: mini-batch size, drawn without replacement in an order that depends only on seed and epoch; None for the
            full batch
        train: number of training samples; None for all
        test: number of test samples; None for all
        every: number of steps between measurements; None for 10, or as many as the budget allows
        budget: share of the time of the run spent on measurements, in place of a fixed number of steps; such runs are
            not reproducible bit for bit
        measures: what to measure; name@10 measures every 10 steps, name@end only at the end of training
        seed: random seed of the parameters, of the order of mini-batches, and of the model in training
        dtype: precision of model and data, float32 or float64
        checkpoint_every: number of steps between checkpoints; the last step always has one
        stop_loss: stop when the training loss is at most this; checked at every step on the full batch, otherwise at
            measurements
        stop_accuracy: stop when the training accuracy at a measurement is at least this
        threads: number of CPU threads; None to time one thread against all at the first start and keep the faster
        path: method for Hessian products; None to time the methods at the first start and keep the fastest
        device: where to train and to measure: cpu, cuda, cuda:1; None for the CPU, or for where function puts the
            model. A run may be continued on another device, and then equals the undisturbed one up to rounding
        spikes: watch the norm of every step for warnings before a spike of the training loss; warnings and spikes are
            events of the record
        function: module:function that returns your own model, loss function and data, in place of those by name; its
            arguments follow, as in module:function:width=64

    Raises :class:`InputError` in one line for the first value that cannot be used.
    """

    data: str = "fashion-5k"
    model: str = "mlp"
    loss: str = "mse"
    mode: str = "auto"
    optimizer: str = "sgd"
    lr: float = 0.05
    schedule: str = "constant"
    decay_schedule: str = "constant"
    clip: float | None = None
    steps: int = 1000
    batch: int | None = None
    train: int | None = None
    test: int | None = None
    every: int | None = None
    budget: float | None = None
    measures: Sequence[str] = MEASURED
    seed: int = 0
    dtype: str = "float32"
    checkpoint_every: int = 500
    stop_loss: float | None = None
    stop_accuracy: float | None = None
    threads: int | None = None
    path: str | None = None
    device: str | None = None
    spikes: bool = False
    function: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.measures, list | tuple):
            given = [self.measures] if isinstance(self.measures, str) else list(MEASURED[:2])
            raise InputError(
                f"{OWNER} with measures={shown(self.measures)}",
                expected="a list of measures by name",
                hint=f"measures={given}",
            )
        count = optional(integer(1))
        check_fields(
            self,
            OWNER,
            data=text(empty=False),
            model=text(empty=False),
            loss=text(empty=False),
            measures=each(text()),
            mode=choice(*get_args(Mode)),
            optimizer=text(empty=False),
            lr=real(above=0),
            schedule=text(empty=False),
            decay_schedule=text(empty=False),
            clip=optional(real(above=0)),
            steps=integer(1),
            batch=count,
            train=count,
            test=count,
            every=count,
            budget=optional(real(above=0, most=1)),
            dtype=choice("float32", "float64"),
            checkpoint_every=integer(1),
            stop_accuracy=optional(real(above=0, most=1)),
            threads=optional(integer(1, MOST_THREADS)),
            path=optional(choice(*get_args(PathName))),
            device=optional(text(empty=False)),
            function=optional(text(empty=False)),
        )
        if self.device is not None:
            check_device_name(OWNER, self.device)
        if self.every is not None and self.budget is not None:
            raise InputError("both every and budget were given", expected="only one of them")
        if self.function is not None:
            for option in dataclasses.fields(self):
                if option.name in NAMED and getattr(self, option.name) != option.default:
                    raise InputError(
                        f"both function and {option.name} were given",
                        expected=f"{option.name} to be returned by the function",
                    )
        for registry, spec in (
            (DATA, self.data),
            (MODELS, self.model),
            (LOSSES, self.loss),
        ):
            registry.build(spec)
        flow = isinstance(plan_optimizers(self.optimizer).named[0], NamedGradientFlow)
        if flow and self.clip is not None:
            raise InputError("gradient flow with clip", expected="an optimizer with steps, whose gradients are clipped")
        scheduled = not isinstance(SCHEDULES.build(self.schedule), ConstantSchedule)
        if flow and scheduled:
            raise InputError(
                f"gradient flow with schedule={self.schedule}", expected="an optimizer with a learning rate"
            )
        decays = not isinstance(DECAY_SCHEDULES.build(self.decay_schedule), ConstantDecay)
        if flow and decays:
            raise InputError(
                f"gradient flow with decay_schedule={self.decay_schedule}", expected="an optimizer with a weight decay"
            )
        measured = {measure.name for measure in in_order(self.measures)[0]}
        for stop, needed in (("stop_loss", "loss"), ("stop_accuracy", "accuracy")):
            if getattr(self, stop) is not None and needed not in measured:
                raise InputError(f"{stop} without the measure '{needed}'", hint=f"adding '{needed}' to the measures")

    def as_dict(self) -> dict[str, Any]:
        """The configuration as it is read back from a record, without options that this run does not use.

        ``device`` is not in it: where a run is computed is no part of what it is, and a record can be continued
        elsewhere. The record has it in ``info["device"]``.
        """
        unused = {"device", *(NAMED if self.function else ("function",)), *(() if self.spikes else ("spikes",))}
        if isinstance(SCHEDULES.build(self.schedule), ConstantSchedule):
            unused.add("schedule")  # as in records of versions that had no schedules
        if isinstance(DECAY_SCHEDULES.build(self.decay_schedule), ConstantDecay):
            unused.add("decay_schedule")
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in unused}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in kept.items()}


def check_run(config: object) -> None:
    """Raise :class:`InputError` for anything but a :class:`RunConfig`, such as the name of a setup."""
    if not isinstance(config, RunConfig):
        given = f"'{config}'" if isinstance(config, str) else f"a {type(config).__name__}"
        raise InputError(
            f"a run given as {given}",
            expected="a RunConfig",
            hint=f"SETUPS.build('{config}')" if isinstance(config, str) else "RunConfig(...)",
        )
