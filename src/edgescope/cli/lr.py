"""``edgescope lr``: the learning rate to train at, and where training turns unstable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from rich import box
from rich.table import Table
from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.errors import InputError
from edgescope.options import check_float, check_int, check_seed

if TYPE_CHECKING:
    from torch import nn

    from edgescope.training.own import Own
    from edgescope.tuning import LearningRateSuggestion

NOT_FOUND: Final = 3
"""Exit code where no learning rate that was tried lowers the loss."""


@dataclass(frozen=True)
class Lr(Command):
    """Find the learning rate to train at, in about a minute, and where training turns unstable.

    FUNCTION returns (model, loss_fn, data), as for 'edgescope sweep'; it is called once for each seed, so that the
    intervals include initializations. Critical learning rates of single batches bound the suggestion, and short
    training runs beneath them choose it. All of this happens in memory: nothing is written but the picture.

    Exit code: 0 with a suggestion; 3 if no learning rate that was tried lowers the loss; 2 for input that cannot be
    used. With --json one line of JSON is printed, in which every number is finite.

    Examples:
      edgescope lr mymodule:make_run --optimizer sgd:momentum=0.9
      edgescope lr mymodule:make_run --optimizer adamw --schedule cosine --batch 64 --json
    """

    function: Annotated[Positional[str], arg(metavar="MODULE:FUNCTION")]
    """function without arguments that returns (model, loss_fn, data)"""
    optimizer: str = "sgd"
    """optimizer by name with options, such as adam or sgd:momentum=0.9"""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """learning rate after warm-up in the short runs: the schedule that training uses"""
    batch: Annotated[int | None, NoDefault] = None
    """mini-batch size, if the data are one batch; by default that batch is taken whole"""
    clip: Annotated[float | None, NoDefault] = None
    """norm to which gradients are clipped; by default they are not"""
    warm_up: int = 30
    """number of steps of linear warm-up in the short runs"""
    steps: int = 100
    """number of steps after warm-up in the short runs"""
    seconds: float = 60.0
    """time that all may take; if it would take longer, fewer batches and steps are used"""
    seeds: int = 2
    """number of initializations and orders of the data"""
    seed: int = 0
    """random seed of the first of them"""
    picture: Annotated[Path | None, NoDefault] = None
    """folder for a picture, learning-rate.svg, .png and .pdf"""
    json: Annotated[bool, NoDefault] = False
    """print the result as JSON"""
    module: Modules = ()

    def run(self) -> int:
        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.progress import ProgressLine
        from edgescope.tuning import find_lr

        for name, least in (("--batch", 1), ("--warm-up", 1), ("--steps", 5), ("--seeds", 1)):
            value = getattr(self, name[2:].replace("-", "_"))
            if value is not None:
                check_int("lr", name, value, least=least)
        check_float("lr", "--seconds", self.seconds, above=0)
        if self.clip is not None:
            check_float("lr", "--clip", self.clip, above=0)
        check_seed("lr", self.seed, "--seed")
        if self.picture is not None:
            from edgescope import figures  # says now, and not after a minute, if a package is missing

            assert figures
        keep_freed_memory()
        first = self._made(self.seed)
        with ProgressLine("learning rate", Terminal(stderr=True)) as line:
            found = find_lr(
                lambda seed: self._model(first, seed),
                first.loss_fn,
                first.data,
                optimizer=self.optimizer,
                schedule=self.schedule,
                batch=self.batch,
                clip=self.clip,
                seeds=self.seeds,
                warm_up=self.warm_up,
                steps=self.steps,
                seconds=self.seconds,
                progress=line,
            )
        written = None if self.picture is None else found.figure().save(self.picture)
        if self.json:
            say(json.dumps(self._as_dict(found), allow_nan=False))
        else:
            _show(found)
            if written:
                say(f"picture: {written['png']}")
        return 0 if found.trained else NOT_FOUND

    def _made(self, seed: int) -> Own:
        from edgescope.training.own import made_by

        return made_by(self.function, seed)

    def _model(self, first: Own, seed: int) -> nn.Module:
        model = first.model if seed == 0 else self._made(self.seed + seed).model
        if type(model) is not type(first.model):
            raise InputError(f"function '{self.function}' returned a {type(model).__name__} when it was called again")
        return model

    def _as_dict(self, found: LearningRateSuggestion) -> dict[str, Any]:
        return {"function": self.function} | found.as_dict()


def _show(found: LearningRateSuggestion) -> None:
    say(*found.summary().splitlines())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("learning rate", "seed", "loss after", "warm-up", ""):
        table.add_column(heading, justify="right" if heading not in ("warm-up", "") else "left")
    for trial in found.trials:
        here = "suggested" if trial.rate == found.suggested and found.trained and trial.warm_up else ""
        loss = "diverged" if trial.diverged else f"{trial.loss:.4g}"
        table.add_row(f"{trial.rate:.3g}", str(trial.seed), loss, "yes" if trial.warm_up else "no", here)
    Terminal().print(table)
