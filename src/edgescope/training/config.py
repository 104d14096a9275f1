"""What a training run is: data, model, loss, optimizer, and what is measured; checked before anything is built."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, get_args

from edgescope.data import DATA
from edgescope.errors import InputError
from edgescope.losses import LOSSES
from edgescope.models import MODELS
from edgescope.monitor.monitor import in_order
from edgescope.objective.plan import PathName
from edgescope.optim import OPTIMIZERS

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
"""What a function of the user's takes the place of."""


@dataclass(frozen=True)
class RunConfig:
    """A training run. ``data``, ``model``, ``loss``, ``optimizer`` and ``measures`` are names with options, such as
    ``mlp:widths=200x200,activation=tanh``.

    Args:
        function: ``module:function``, which makes model, loss function and data of one's own in place of those named,
            as :mod:`edgescope.training.own` says.
        lr: learning rate; gradient flow ignores it.
        steps: optimizer steps, at most.
        batch: samples in a mini-batch, drawn without replacement in an order that depends on seed and epoch alone;
            None trains on all samples at every step.
        train: training samples to use (None: all).
        test: test samples to use (None: all).
        every: measure at every so many steps (None: 10, or as ``budget`` says).
        budget: instead of ``every``: the share of training time for measurements; not reproducible bit for bit.
        measures: what to measure; ``name@steps`` gives one a schedule of its own, ``name@end`` is taken where
            training ends.
        seed: of the parameters, of the order of mini-batches, and of whatever the model draws.
        dtype: float32 or float64, of model and data.
        checkpoint_every: steps between checkpoints; one is always written at the end.
        stop_loss: stop where the training loss is at most this: at the first such step on the full batch, else at the
            first such measurement.
        stop_accuracy: stop at a measurement whose training accuracy is at least this.
        threads: threads to compute with; None times one against all at the first start and keeps the winner.
        path: how Hessian products are computed; None times the ways at the first start and keeps the cheapest.

    Raises :class:`InputError` in one line for the first value that cannot be used.
    """

    data: str = "fashion-5k"
    model: str = "mlp"
    loss: str = "mse"
    optimizer: str = "sgd"
    lr: float = 0.05
    steps: int = 1000
    batch: int | None = None
    train: int | None = None
    test: int | None = None
    every: int | None = None
    budget: float | None = None
    measures: tuple[str, ...] = MEASURED
    seed: int = 0
    dtype: str = "float32"
    checkpoint_every: int = 500
    stop_loss: float | None = None
    stop_accuracy: float | None = None
    threads: int | None = None
    path: str | None = None
    function: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.lr, int | float) and math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"lr = {self.lr}", expected="a positive finite learning rate")
        for name in ("steps", "batch", "train", "test", "every", "checkpoint_every", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InputError(f"{name} = {value}", expected="a whole number of at least 1")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed = {self.seed}", expected="a whole number, not negative")
        if self.dtype not in ("float32", "float64"):
            raise InputError(f"dtype = '{self.dtype}'", expected="float32 or float64")
        if self.path is not None and self.path not in get_args(PathName):
            raise InputError(f"path = '{self.path}'", expected=f"one of {', '.join(get_args(PathName))}")
        if self.every is not None and self.budget is not None:
            raise InputError("both every and budget were given", expected="one of them")
        if self.function is not None:
            for option in dataclasses.fields(self):
                if option.name in NAMED and getattr(self, option.name) != option.default:
                    raise InputError(
                        f"both function and {option.name} were given", expected=f"{option.name} made by the function"
                    )
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget > 0):
            raise InputError(f"budget = {self.budget}", expected="a share of training time such as 0.1")
        for registry, spec in (
            (DATA, self.data),
            (MODELS, self.model),
            (LOSSES, self.loss),
            (OPTIMIZERS, self.optimizer),
        ):
            registry.build(spec)
        measured = {measure.name for measure in in_order(self.measures)[0]}
        for stop, needed in (("stop_loss", "loss"), ("stop_accuracy", "accuracy")):
            value = getattr(self, stop)
            if value is not None and not math.isfinite(value):
                raise InputError(f"{stop} = {value}", expected="a finite number")
            if value is not None and needed not in measured:
                raise InputError(f"{stop} without the measure '{needed}'", hint=f"adding '{needed}' to the measures")

    def as_dict(self) -> dict[str, Any]:
        """The configuration as JSON gives it back from a record, without names that have no part in it."""
        unused = NAMED if self.function else ("function",)
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in unused}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in kept.items()}
