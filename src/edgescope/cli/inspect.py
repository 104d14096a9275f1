"""``edgescope inspect``: the curvature at a checkpoint, and the stability of an optimizer there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.errors import InputError
from edgescope.options import check_float, check_int, check_seed

if TYPE_CHECKING:
    from edgescope.cli.diagnosis import EstimatedCost


@dataclass(frozen=True)
class Inspect(Command):
    """Measure loss, gradient norm, extreme Hessian eigenvalues and Hessian trace at a checkpoint.

    With --optimizer, also tell whether that optimizer is stable at the checkpoint, by comparing the sharpness in its
    own metric with its stability threshold. Adaptive optimizers need their state in the checkpoint.

    The checkpoint is a safetensors file, a file written by torch.save with a state_dict (by itself, or under the key
    "model", "state_dict" or "model_state_dict"), or the folder of a run. No code in it is executed.

    Examples:
      edgescope inspect model.safetensors --objective mymodule:objective
      edgescope inspect last.pt --objective mymodule:objective --optimizer sgd:momentum=0.9 --lr 0.1 --json
      edgescope inspect --compare before.pt after.pt --objective mymodule:objective --perturb
    """

    checkpoint: Positional[tuple[Path, ...]]
    """checkpoint file, or the folder of a run, for its newest checkpoint; two of them with --compare"""
    objective: Annotated[str, arg(metavar="MODULE:FUNCTION")]
    """function without arguments that returns an edgescope.Objective or (model, loss_fn, data)"""
    k: int = 6
    """number of eigenpairs at each end of the spectrum"""
    optimizer: Annotated[str | None, NoDefault] = None
    """optimizer to check for stability, such as adam or sgd:momentum=0.9"""
    lr: Annotated[float | None, NoDefault] = None
    """learning rate of the optimizer; by default the one in the checkpoint"""
    trace: Annotated[bool, NoDefault] = True
    """do not estimate the trace"""
    compare: Annotated[bool, NoDefault] = False
    """measure two checkpoints of one model and show them side by side"""
    perturb: Annotated[bool, NoDefault] = False
    """also tell by how much the loss increases where weights are rounded to 4 bits or have noise of 1% and 5%"""
    mode: Annotated[Literal["auto", "eval", "train", "batch-statistics"] | None, NoDefault] = None
    """how the model computes; auto uses batch statistics if training does, without dropout; by default auto, or as in
    the Objective that MODULE:FUNCTION returns"""
    dtype: Annotated[Literal["float32", "float64"] | None, NoDefault] = None
    """precision of the measurement; by default that of the model"""
    device: Annotated[str | None, NoDefault] = None
    """where to measure: cpu, cuda, cuda:1; by default where MODULE:FUNCTION puts the model"""
    seed: int = 0
    """random seed of start vectors and probes"""
    json: Annotated[bool, NoDefault] = False
    """print the result as JSON"""
    module: Modules = ()

    def run(self) -> int:
        import torch

        from edgescope.allocator import keep_freed_memory
        from edgescope.cli.comparison import compared, show_comparison
        from edgescope.cli.inspection import Questions, inspected, show_inspection
        from edgescope.cli.progress import ProgressLine
        from edgescope.cli.user_objective import loaded_objective
        from edgescope.cli.weights import put_weights, read_weights
        from edgescope.objective.checks import check_device
        from edgescope.optim.pairs import one_optimizer

        check_int("inspect", "--k", self.k, least=1)
        check_seed("inspect", self.seed, "--seed")
        number = len(self.checkpoint)
        if number != 1 + self.compare:
            raise InputError(
                f"inspect with {number} checkpoint{'s' * (number != 1)}" + (" and --compare" if self.compare else ""),
                expected="two checkpoints of one model" if self.compare else "one checkpoint",
                hint="--compare A B" if number == 2 else None,
            )
        if self.optimizer is not None:
            one_optimizer(self.optimizer)
        if self.lr is not None:
            check_float("inspect", "--lr", self.lr, above=0)
        check_device("inspect", self.device)
        keep_freed_memory()
        saved = [read_weights(path) for path in self.checkpoint]
        dtype = getattr(torch, self.dtype) if self.dtype else None
        objective = loaded_objective(self.objective, saved[0], dtype, self.mode, self.device)
        asked = Questions(self.k, self.optimizer, self.lr, self.trace, self.perturb, self.seed)
        notes = Terminal(stderr=True)

        def tell(expected: EstimatedCost) -> None:
            notes.print(f"estimated cost: {expected}", markup=False, soft_wrap=True)

        found, places = [], []
        for weights in saved[1:]:
            put_weights(
                weights, objective.model
            )  # a checkpoint that does not fit is refused before the first is measured
        for weights in saved:
            put_weights(weights, objective.model)
            places.append(objective.parameters())
            with ProgressLine("measuring", notes) as line:
                found.append(inspected(objective, weights, asked, tell, line))
        if self.compare:
            both = compared(found[0], found[1], float((places[1].double() - places[0].double()).norm()))
            say(json.dumps(both)) if self.json else show_comparison(both)
        else:
            say(json.dumps(found[0])) if self.json else show_inspection(found[0])
        return 0
