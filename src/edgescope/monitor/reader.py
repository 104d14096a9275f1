"""Taking the measures that are due at one step of a run, and keeping them in the record."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from edgescope.cost import Cost
from edgescope.errors import ModelChangedError
from edgescope.measures import Measure, Moment, Previous, Reading, StepTaken
from edgescope.measures.last_step import LastStep, StepPart
from edgescope.measures.rules import Rules, ids_of, rules_of
from edgescope.monitor import checks
from edgescope.monitor.description import Stopwatch, describe_run
from edgescope.monitor.notifier import Notifier, OnError
from edgescope.monitor.pending import PendingStep
from edgescope.monitor.regimes import RegimeWatch
from edgescope.monitor.run_checks import RunChecks
from edgescope.monitor.run_state import RunState
from edgescope.monitor.spikes import SpikeOptions, SpikeWatch
from edgescope.monitor.trackers import Tracker, values_of
from edgescope.objective import Objective
from edgescope.optim import SAM, GradientFlow
from edgescope.store import Record

OnReading = Callable[[int, dict[str, Reading]], object]
"""A function that is called with the step and its readings by name."""


class Reader:
    """Takes ``measures`` of a run into ``record``, one step after the other.

    ``optimizers`` are those that are followed now, ``progress`` says how far the run has come. ``on_reading`` is called
    with the readings of a step once the record has them, and ``tracker`` is given their values. Nothing that fails
    while measuring, or in these, is raised, unless ``on_error`` is "raise".
    """

    def __init__(
        self,
        objective: Objective,
        optimizers: list[torch.optim.Optimizer],
        measures: list[Measure],
        evaluations: dict[str, Objective],
        record: Record,
        *,
        release: bool,
        on_error: OnError,
        on_reading: OnReading | None = None,
        tracker: Tracker | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.objective, self.optimizers, self.measures = objective, optimizers, measures
        self.evaluations, self.record = evaluations, record
        self.progress = RunState(time=0.0 if optimizers else None)
        self.notifier, self.stopwatch = Notifier(record, self.progress, on_error), Stopwatch()
        self._checks = RunChecks(objective, optimizers, measures, self.progress, self.notifier)
        self._release, self._on_reading, self._tracker = release, on_reading, tracker
        self.spikes: SpikeWatch | None = None
        self._spikes_before: dict[str, Any] | None = None  # the state of the one to be made
        self.regimes: RegimeWatch | None = None
        self._regimes_before: list[str] = []
        self._known: Previous | None = None
        self._seen: StepTaken | None = None
        self._batch_size = batch_size
        self._gradients: list[tuple[float, float, int]] = []  # norm, factor over the objective's, parameters
        self._by_name = {measure.name: measure for measure in measures}
        for needed in (one for measure in measures for one in measure.dependencies()):
            self._by_name.setdefault(needed.name, needed)
        self._rules = Rules()
        self._rules_of: tuple[tuple[int, ...], ...] = ()

    # ------------------------------------------------------------------------------------------------------ the steps

    def wanted(self, due: set[str]) -> frozenset[StepPart]:
        """What the measures among those ``due`` need of the step."""
        asked = [measure for measure in self.measures if measure.name in due]
        needed = [*asked, *(one for measure in asked for one in measure.dependencies())]
        return frozenset(part for measure in needed for part in measure.of_the_step())

    def begin(self, pending: PendingStep, known: Previous | None = None) -> None:
        """A step begins: note the point, if a measure that is due needs it."""
        known, self._known = known or self._known, None
        wanted = frozenset[StepPart]() if self.progress.diverged else self.wanted(pending.due)
        if "gradient" in wanted:
            with self.notifier.measuring("loss and gradient where the step begins cannot be measured"):
                pending.begin(self.objective, known)
        elif "parameters" in wanted:
            with self.notifier.measuring("the parameters where the step begins cannot be read"):
                pending.start = self.objective.parameters()

    def begin_part(self, pending: PendingStep, optimizer: torch.optim.Optimizer, ready: bool) -> None:
        """``optimizer`` begins its part of the step: note the gradient that it is going to use, if it is ``ready``."""
        self._checks.begin_part(optimizer, ready, due=bool(pending.due))
        # SAM and LBFGS step with gradients of several points.
        several = isinstance(optimizer, SAM | torch.optim.LBFGS)
        if self.progress.diverged or several or "training" not in self.wanted(pending.due):
            return
        with self.notifier.measuring("the gradient of training cannot be read"):
            rule = self.rules().of(optimizer)
            pending.begin_part(self.objective, optimizer, rule, ready)

    def end_part(self, pending: PendingStep, optimizer: torch.optim.Optimizer) -> None:
        """``optimizer`` has taken its part of the step."""
        progress = self.progress
        if progress.time is not None and len(pending.stepped) == 1:
            rates = {float(g.get("lr", math.nan)) for one in self.optimizers for g in one.param_groups}
            progress.time = None if len(rates) > 1 else progress.time + rates.pop()
        self._checks.end_part(optimizer)
        with self.notifier.measuring("the step of the optimizer's rule cannot be computed"):
            pending.end_part(self.objective, optimizer)

    def follow(self, pending: PendingStep | None = None) -> None:
        """Show the parameters of this step to all that needs every step of a run; ``pending`` is the step, if any."""
        self.stopwatch.look()
        if self.progress.diverged:
            return
        for measure in self.measures:
            if type(measure).follow is not Measure.follow:  # else there is nothing to do
                with self.notifier.measuring(f"the measure '{measure.name}' cannot follow the run"):
                    measure.follow(self.progress.step, self.objective)
        if self.spikes is not None:
            batch, loss = (None, None) if pending is None else (pending.batch, pending.loss)
            before = self.objective.spent
            with self.notifier.measuring("the run cannot be watched for spikes"):
                self.spikes.follow(self.progress.step, self.objective, lambda: self.rules().together, batch, loss)
            if self._release and self.objective.spent != before:
                self.objective.release()

    def watch(self, options: SpikeOptions) -> SpikeWatch:
        """Watch the run for spikes from now on, or from where a state that was loaded has it."""
        if self.spikes is None:
            self.spikes = SpikeWatch(options, self.notifier, self.record)
            if self._spikes_before is not None:
                self.spikes.load_state(self._spikes_before)
        return self.spikes

    def watch_regimes(self) -> RegimeWatch:
        """Judge the run at each reading from now on, or from where a state that was loaded has it."""
        if self.regimes is None:
            self.regimes = RegimeWatch(self.notifier, self.record)
            self.regimes.load_state(self._regimes_before)
        return self.regimes

    def read(self, pending: PendingStep) -> dict[str, Reading]:
        """Take the measures that are due, keep them in the record, and check what they show."""
        readings: dict[str, Reading] = {}
        with self.notifier.measuring("a measurement cannot be made"):
            moment = self._moment(pending)
            readings = self._take_due(moment, pending)
            self._checks.after_reading(moment, pending, readings, self.optimizers)
        if self._release:
            for objective in (self.objective, *self.evaluations.values()):
                objective.release()
        self.stopwatch.look()
        if self._on_reading is not None and readings:
            with self.notifier.guarded("on_reading= raised an error"):
                self._on_reading(self.progress.step, dict(readings))
        if self._tracker is not None and (values := values_of(readings)):
            with self.notifier.guarded("log= raised an error", cause="log"):
                self._tracker.log(values, self.progress.step)
        if self.regimes is not None and readings:
            self.regimes.look(self.progress.step, self.progress.diverged)
        return readings

    def close_tracker(self) -> None:
        """The run has ended: let the tracker know."""
        if self._tracker is not None:
            with self.notifier.guarded("log= raised an error", cause="log"):
                self._tracker.close()

    def rules(self) -> Rules:
        """The rules of the optimizers, made anew where tensors, optimizers or parameter groups have changed."""
        tensors = self.objective.tensors
        members = [(id(one), *sorted(ids_of(one))) for one in self.optimizers]
        key = (tuple(map(id, tensors)), *members)
        if key != self._rules_of:
            self._rules, self._rules_of = rules_of(self.optimizers, tensors), key
            if any(measure.needs_rule for measure in self.measures):
                for kind, text in self._rules.problems:
                    faq = "no-threshold" if kind == "threshold" else "unknown-optimizer"
                    self.notifier.notify(kind, text, faq=faq, cause=text)
        return self._rules

    def check_at_the_start(self) -> None:
        """Note what is measured, and check what is known before the first step."""
        notifier = self.notifier
        with notifier.guarded("what is measured cannot be noted"):
            self.record.set_info("measured", what_is_measured(self.objective))
            describe_run(self.record, self.objective, self.optimizers, self.measures)
            for notice in self.objective.notices:
                self.record.note(self.progress.step, notice.kind, notice.text)
            if self.optimizers:
                self.rules()
                checks.check_mode(self.objective, notifier.notify)

    # ------------------------------------------------------------------------------------------------------ the state

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs."""
        return self.progress.state() | {
            "measures": {measure.name: measure.state() for measure in self.measures},
            "gradients": [list(each) for each in self._gradients],
            "seen": None if self._seen is None else asdict(self._seen),
            "batch_size": self._batch_size,
            "spikes": self._spikes_before if self.spikes is None else self.spikes.state(),
            "regimes": self._regimes_before if self.regimes is None else self.regimes.state(),
            "moved": self._checks.state(self.optimizers),
            "told": [list(cause) for cause in self.notifier.notices.given()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`state` gave."""
        notices = self.notifier.notices
        if self.progress.step:
            notices.forget()  # those of steps that will be taken again
        self.progress.load_state(state, self.objective.device)
        self._checks.load_state(state.get("moved", []), self.optimizers)
        self._known = None
        self._gradients = [(norm, factor, count) for norm, factor, count in state.get("gradients", [])]
        self._batch_size = state.get("batch_size", self._batch_size)
        self._spikes_before = state.get("spikes")
        if self.spikes is not None and self._spikes_before is not None:
            self.spikes.load_state(self._spikes_before)
        self._regimes_before = list(state.get("regimes", []))
        if self.regimes is not None:
            self.regimes.load_state(self._regimes_before)
        seen = state.get("seen")
        self._seen = None if seen is None else StepTaken(**seen)
        notices.mark((kind, cause) for kind, cause in state.get("told", []))
        for measure in self.measures:
            measure.load_state(state["measures"][measure.name])

    # ------------------------------------------------------------------------------------------------------ private

    def _take_due(self, moment: Moment, pending: PendingStep) -> dict[str, Reading]:
        measures = [measure for measure in self.measures if measure.name in pending.due]
        progress = self.progress
        was_diverged = progress.diverged
        # The sum is not finite where one of them is not, and costs a tenth of asking each.
        moment.diverged = was_diverged or not math.isfinite(float(moment.parameters.sum()))
        first = [measure for measure in measures if measure.needs in ("products", "gradient")]
        readings = {measure.name: _taken_or_shared(measure, moment) for measure in first}
        # Only now, since a product or a gradient leaves the loss known.
        if any(measure.passes_over_data() for measure in measures):
            moment.diverged = moment.diverged or not self._loss_is_finite()
        for measure in measures:
            if measure not in first:
                readings[measure.name] = _taken_or_shared(measure, moment)
        readings = {measure.name: readings[measure.name] for measure in measures}
        for measure in measures:
            if "gradient" in measure.of_the_step():
                found = readings[measure.name]
                cost, seconds = found.cost + pending.cost, found.seconds + pending.seconds
                readings[measure.name] = replace(found, cost=cost, seconds=seconds)
                break
        self._keep(moment, [m for m in first if m.needs == "products" and readings[m.name].values])
        progress.latest, progress.diverged = progress.latest | readings, moment.diverged
        events = [("diverged", "parameters or loss are not finite")] if moment.diverged and not was_diverged else []
        if events:
            text = f"parameters or loss are not finite at step {progress.step}, and no curvature is measured any more"
            self.notifier.notices.give("not-finite", text, faq="not-finite", cause="diverged")
        self.record.append(progress.step, readings.values(), events, add=bool(progress.taken))
        progress.taken = [*progress.taken, *readings]
        if events:
            self.record.set_status("diverged")
        return readings

    def _keep(self, moment: Moment, products: list[Measure]) -> None:
        """What this reading found, for the step that begins at the same parameters; a product leaves it known."""
        taken = moment.taken
        if taken is not None and taken.gradient_norm is not None:
            size = self.objective.size if taken.among is None else int(taken.among.sum())
            entry = (taken.gradient_norm, math.nan if taken.gradient is None else taken.gradient, size)
            self._gradients = [*self._gradients, entry][-4:]
        self._seen = taken or self._seen
        self._batch_size = moment.batch_samples() if "own batch" in moment.shared else self._batch_size
        if products and not moment.diverged and self.optimizers:
            self._known = Previous(moment.parameters, self.objective.loss(), self.objective.gradient())

    def _moment(self, pending: PendingStep) -> Moment:
        changed = self._what_has_changed()
        parameters = torch.zeros(0, device="cpu") if changed else self.objective.parameters()
        progress = self.progress
        if progress.initial is None and not changed:
            progress.initial = parameters
        rules = Rules(why=changed) if changed else self.rules()
        optimizer = self.optimizers[0] if self.optimizers else None
        known = progress.time is not None and math.isfinite(progress.time)
        moment = Moment(
            step=progress.step,
            objective=self.objective,
            optimizer=optimizer,
            rule=rules.together,
            parameters=parameters,
            initial=(parameters if progress.initial is None else progress.initial) if progress.from_the_start else None,
            previous=pending.previous if pending.stepped else None,
            time=optimizer.time if isinstance(optimizer, GradientFlow) else progress.time if known else None,
            evaluations=self.evaluations,
            why_no_rule=rules.why,
            changed=changed,
            optimizers=tuple(self.optimizers),
            rules=rules.each,
            seen=self._seen,
            last=self._last_step(pending) if pending.stepped and not changed else None,
            batch_size=self._batch_size,
            measures=self._by_name,
            due=frozenset(pending.due),
            strict=self.notifier.on_error == "raise",
        )
        if not changed and pending.parts:
            moment.compare = functools.partial(self._compare, pending, moment)
        return moment

    def _last_step(self, pending: PendingStep) -> LastStep:
        return LastStep(
            pending.start,
            tuple(dict.fromkeys(pending.rates)),
            pending.batch,
            functools.partial(pending.training_gradient, self.objective),
            functools.partial(pending.of_the_rule, self.objective),
            functools.partial(pending.at_target_rate, self.objective),
        )

    def _compare(self, pending: PendingStep, moment: Moment) -> StepTaken | None:
        with self.notifier.guarded("the step taken cannot be compared with its rule"):
            if not pending.stepped and "gradient" in self.wanted(pending.due):
                # before the first step, where a product has left the gradient known
                pending.begin(self.objective, None)
                pending.cost, pending.seconds = Cost(), 0.0  # counted by the measure that asks
            now = moment.parameters if pending.stepped else None
            return pending.taken(self.objective, now, self._gradients)
        return None

    def _what_has_changed(self) -> str:
        try:
            _ = self.objective.tensors
        except ModelChangedError as error:
            return str(error)
        return ""

    def _loss_is_finite(self) -> bool:
        """Whether the loss is finite; True where it cannot be computed."""
        try:
            return math.isfinite(float(self.objective.loss()))
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit included
            return True


def _taken_or_shared(measure: Measure, moment: Moment) -> Reading:
    """The reading of a measure that is due; without cost where another measure has paid for it already."""
    paid = measure.name in moment.shared
    reading = moment.get(measure)
    return replace(reading, cost=Cost(), seconds=0.0) if paid else reading


def what_is_measured(objective: Objective) -> dict[str, Any]:
    """What figures of an objective refer to, for a record."""
    return {
        "samples": objective.samples,
        "parameters": objective.size,
        "dtype": str(objective.dtype).removeprefix("torch."),
        "mode": objective.mode,
    }
