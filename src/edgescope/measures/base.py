"""What a measure is, one quantity of a training run at one step, and what it is given of that step."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError, NotKnownError
from edgescope.linalg.product_errors import note_on
from edgescope.measures.last_step import LastStep, StepPart
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.measures.step_taken import StepTaken
from edgescope.objective import Objective, on_batch
from edgescope.objective.processes import on_all
from edgescope.optim.rule import UpdateRule
from edgescope.optim.threshold import Threshold
from edgescope.registry import Registry
from edgescope.user_code import describe_exception

CLIPPED: Final = "gradients are clipped"
HIDDEN_FACTOR: Final = "by a factor that mini-batches hide"
IN_MINI_BATCHES: Final = "in mini-batches the edge shows in batch_sharpness"
"""Parts of notes on a reading, by which a verdict on a run recognises them."""

Needs = Literal["products", "gradient", "loss", "nothing", "other points"]


@dataclass(frozen=True)
class Previous:
    """Where the last optimizer step began: parameters, and the objective's loss and gradient there."""

    parameters: Float[Tensor, " P"]
    loss: Float[Tensor, ""]
    gradient: Float[Tensor, " P"]


@dataclass
class Moment:
    """One step of a run, as a measure is given it. Vectors are flat, of length P, in the objective's order.

    A moment at step t has the parameters after t optimizer steps. ``initial`` are those of step 0, None where they are
    not known. ``previous`` is where the last step began (None at step 0, or when no measure asked for it). ``time`` is
    the sum of the learning rates of all steps so far, or the time that gradient flow has reached; None where that is
    not known. ``why_no_rule`` says why ``rule`` is None. ``evaluations`` are further objectives by name, such as
    ``{"test": ...}``. After ``diverged`` no curvature is measured. ``changed`` says how the model's parameters no
    longer are those of the objective, after which nothing that depends on them is measured.

    ``measures`` are the measures of the run by name, and ``due`` names those that are taken at this step (None: not
    known). ``shared`` has the readings of this moment by name of the measure, and whatever else several measures of the
    same step need, so that it is computed once; it is empty at the start of every step. A measure that needs the
    reading of another one calls :meth:`get`.

    With several optimizers, ``optimizer`` is the first of ``optimizers``, ``rule`` is the rule of all together, and
    ``rules`` has that of each by its name. ``compare()`` computes :attr:`taken`; ``seen`` is the last one that was
    found at an earlier step, used where there is none at this one. ``last`` is the last step itself, None at step 0.
    ``batch_size`` is the number of samples of training's steps where it was known at an earlier one. ``strict``: a
    measure that fails raises.
    """

    step: int
    objective: Objective
    optimizer: torch.optim.Optimizer | None
    rule: UpdateRule | None
    parameters: Float[Tensor, " P"]
    initial: Float[Tensor, " at_start"] | None
    previous: Previous | None = None
    time: float | None = None
    evaluations: dict[str, Objective] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    why_no_rule: str = "there is no optimizer"
    diverged: bool = False
    changed: str = ""
    optimizers: tuple[torch.optim.Optimizer, ...] = ()
    rules: dict[str, UpdateRule] = field(default_factory=dict)
    compare: Callable[[], StepTaken | None] | None = None
    seen: StepTaken | None = None
    last: LastStep | None = None
    batch_size: int | None = None
    strict: bool = False
    measures: dict[str, Measure] = field(default_factory=dict)
    due: frozenset[str] | None = None

    def get(self, measure: Measure) -> Reading:
        """The reading at this moment of the measure of that name: of the run's own where it has one, else ``measure``.

        Taken once: whoever asks later gets the same reading. So all measures that depend on the sharpness follow the
        eigenvalues of one tracker. Cost: that of the measure, at the first call.
        """
        if measure.name not in self.shared:
            self.shared[measure.name] = self.measures.get(measure.name, measure).take(self)
        found: Reading = self.shared[measure.name]
        return found

    def is_due(self, measure: Measure) -> bool:
        """Whether the measure is itself taken at this step, and not only because another one needs its reading."""
        return self.due is None or measure.name in self.due

    def known_rule(self) -> UpdateRule:
        """The update rule, or a :class:`NotKnownError` that says why there is none."""
        if self.rule is None:
            raise NotKnownError(self.why_no_rule)
        return self.rule

    @property
    def taken(self) -> StepTaken | None:
        """The last step and its gradient, compared with rule and objective; None where not known. Computed once."""
        if "step taken" not in self.shared:
            self.shared["step taken"] = None if self.compare is None else self.compare()
        found: StepTaken | None = self.shared["step taken"]
        return found

    def threshold(self) -> Threshold:
        """The stability threshold of the rule, for gradients and steps scaled as they are in training."""
        found = self.known_rule().threshold().scaled(self.gradient_scale())
        length = self.step_scale()
        if length == 1:
            return found
        formula = f"{found.formula}, divided by the scale of the steps, {length:.4g}"
        return replace(found, value=found.value / length, formula=formula)

    def gradient_scale(self) -> float:
        """Training's gradient as a multiple of the objective's; 1 if not known.

        Cost: one gradient where gradients are clipped, and none was taken at this moment.
        """
        step = self.taken or self.seen
        if step is None or (self.rule is not None and self.rule.gradients > 1):  # SAM's gradient is at another place
            return 1.0
        if "gradient scale" not in self.shared:
            gradient = self.objective.gradient() if step.clips_the_objective else None
            self.shared["gradient scale"] = step.gradient_scale_at(gradient)
        return float(self.shared["gradient scale"])

    def step_scale(self) -> float:
        """The length of steps as a multiple of those of the rule; 1 if not known."""
        step = self.taken or self.seen
        return 1.0 if step is None else step.step_scale

    def scale_note(self) -> str:
        """How gradients or steps are changed in training, in words; empty where no change is detected."""
        step = self.taken or self.seen
        if step is None:
            return ""
        scale, length, clipped, words = self.gradient_scale(), self.step_scale(), step.clipped_to, []
        if clipped is not None and not step.clips_the_objective:
            words.append(f"{CLIPPED} to {clipped:.4g}, {HIDDEN_FACTOR}: the threshold is a lower bound")
        elif clipped is not None and step.sure and scale != 1:
            words.append(f"{CLIPPED} to c = {clipped:.4g}, so the threshold is multiplied by ||g||/c")
        elif scale != 1:
            why = " (clipping, or a factor of the loss)" if clipped is not None else ""
            words.append(f"training's gradient is {scale:.4g} times that of the objective{why}")
        elif step.far_apart:
            each = " and ".join(f"{factor:.4g} ({name})" for name, factor in step.uneven)
            words.append(f"training's gradients are those of the objective times {each}, which is not accounted for")
        if length != 1:
            words.append(f"steps are {length:.4g} times those of the optimizer's rule")
        return "; ".join(words)

    def own_batch(self) -> Objective | None:
        """The objective on the data that the last step was taken on; None where the caller did not give them.

        Of data that are sharded over processes each gives its own share of the batch: NotKnownError where some do not.
        """
        if "own batch" not in self.shared:
            batch, whole = None if self.last is None else self.last.batch, self.objective
            self.shared["own batch"] = on_batch(whole, batch) if is_given("batch", batch, whole) else None
        found: Objective | None = self.shared["own batch"]
        return found

    def batch_samples(self) -> int | None:
        """The number of samples that the last step was taken on; None where the caller did not give them."""
        try:
            own = self.own_batch()
        except Exception:  # no batch of this objective, as the measures that need it say
            own = None
        return self.batch_size if own is None else own.samples

    def mini_batches(self) -> str:
        """That training steps on other data than the objective's, in words; empty where that is not seen."""
        step, samples = self.taken or self.seen, self.batch_samples()
        if samples is not None and samples < self.objective.samples:
            return f"training steps on {samples:,} of the {self.objective.samples:,} samples"
        if step is not None and step.gradient_cosine is not None and not step.on_the_objective and not step.uneven:
            return f"training's gradient is not that of the objective (cosine {step.gradient_cosine:.3g})"
        return ""

    def mini_batch_note(self) -> str:
        """That, and what it means for the ratio; empty where that is not seen."""
        what = self.mini_batches()
        return f"{what}: {IN_MINI_BATCHES} or batch_ratio, and this ratio may stay below 1" if what else ""

    def spent(self) -> Cost:
        """What all objectives have spent up to now."""
        return sum((o.spent for o in self.evaluations.values()), self.objective.spent)


def is_given(name: str, value: Any, objective: Objective) -> bool:
    """Whether the caller gave this argument of ``monitor.step``, such as "batch"; NotKnownError where only some of the
    processes of the group did."""
    what, hint = f"the {name} of the step was given", f"monitor.step({name}={name}) on all"
    return on_all(objective.group, value is not None, objective.device, what, hint)


class Measure(ABC):
    """One quantity. A new one is a file with a dataclass that derives from this, and one line in ``measures/__init__``.

    ``needs`` says what is computed: Hessian ``"products"`` at this moment's parameters (after which loss and gradient
    there are known too), the ``"gradient"``, the ``"loss"``, ``"nothing"``, or something at ``"other points"``.
    Measures are taken in this order, so that each can use what those before it have computed. ``uses`` names the
    measures whose readings this one gets from the moment, and which are taken before it. ``needs_previous`` asks for
    ``moment.previous``, ``needs_step`` for ``moment.taken``, and ``needs_rule`` says that there is no value without an
    optimizer whose rule is known. ``needs_run`` says, where it is not empty, why there is no value without a training
    run: what it needs of other steps. ``of_any_model`` says that it has a value for whatever parameters the model has,
    and ``may_be_infinite`` that an infinite one means something. A measure that needs the parameters of all steps of a
    run, and not only of those at which it is taken, has a method ``follow``.

    A measure may keep state between calls (a warm start): ``state()`` returns it, so that a resumed run continues bit
    for bit.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Needs]
    uses: ClassVar[tuple[str, ...]] = ()
    needs_previous: ClassVar[bool] = False
    needs_step: ClassVar[bool] = False
    needs_rule: ClassVar[bool] = False
    needs_run: ClassVar[str] = ""
    of_any_model: ClassVar[bool] = False
    may_be_infinite: ClassVar[bool] = False

    def dependencies(self) -> tuple[Measure, ...]:
        """The measures that this one passes to ``moment.get``, used where the run has none of the same name.

        Where several measures of a run have one of the same name, all use that of the first.
        """
        return ()

    def follow(self, step: int, objective: Objective) -> None:  # noqa: B027
        """Called by the monitor at step 0 and after every step, before any ``take`` there; must not raise."""

    def of_the_step(self) -> frozenset[StepPart]:
        """What this measure needs of the step before its reading: by ``needs_previous`` and ``needs_step``."""
        found: set[StepPart] = set()
        if self.needs_previous or self.needs_step:
            found |= {"parameters", "gradient"}
        if self.needs_step:
            found.add("training")
        return frozenset(found)

    def passes_over_data(self) -> bool:
        """Whether a reading evaluates the objective. Where none that is due does, its loss is not looked at either."""
        return True

    def take(self, moment: Moment) -> Reading:
        """Read the quantity at this moment, with its cost and seconds. Leaves model, gradients and RNG untouched.

        Where there is no value (diverged, optimizer not known, first step), the reading is without values and its note
        says why in one line. So it is where the measure raises an error, unless ``moment.strict``; KeyboardInterrupt is
        always raised.
        """
        began, before = time.perf_counter(), moment.spent()
        errors = moment.objective.product_errors
        made = 0 if errors is None else len(errors.measured)
        try:
            if moment.diverged and self.needs in ("products", "gradient", "other points"):
                reading = Reading(self.name, {}, note="not measured, since the run has diverged")
            elif moment.changed and not self.of_any_model:
                reading = Reading(self.name, {}, note=f"not measured, since {moment.changed}")
            else:
                reading = self.read(moment)
        except NotKnownError as error:
            reading = Reading(self.name, {}, note=str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if moment.strict:
                raise
            note = str(error) if isinstance(error, EdgescopeError) else describe_exception(error)
            reading = Reading(self.name, {}, note=note, failed=True)
        note = "; ".join(filter(None, (reading.note, note_on(errors, made))))
        return replace(reading, note=note, cost=moment.spent() - before, seconds=time.perf_counter() - began)

    @abstractmethod
    def read(self, moment: Moment) -> Reading:
        """The quantity at this moment; raises an :class:`EdgescopeError` where there is none."""

    def expected_cost(self, size: ProblemSize) -> Cost:
        """About what one reading costs along a run after the first, on a problem of this size, to plan a run by.

        Unless a measure says otherwise, this follows from ``needs``: one tracked eigenvalue, the loss on training and
        test data, nothing where the gradient of the training step is used.
        """
        by_needs = {"products": Cost(products=8), "loss": Cost(losses=2), "other points": Cost(gradients=2)}
        return by_needs.get(self.needs, Cost())

    def state(self) -> dict[str, Any]:
        """What ``load_state`` needs to continue bit for bit: nested dicts of tensors, numbers and text."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Continue from a state that ``state()`` gave."""


MEASURES: Registry[Measure] = Registry("measure")


def as_measure(measure: Any) -> Measure:
    """A measure, or the one that a name with options such as ``"sharpness:k=3"`` describes; InputError for others."""
    if isinstance(measure, str):
        return MEASURES.build(measure)
    if isinstance(measure, type):
        raise InputError(
            f"the class {measure.__name__} as a measure", expected="an instance of it", hint=f"{measure.__name__}()"
        )
    if not isinstance(measure, Measure):
        raise InputError(f"a measure of type {type(measure).__name__}", expected="a name or a Measure")
    return measure
