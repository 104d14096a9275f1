"""One measure of an objective at its present parameters, without a training loop."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import InputError, NotKnownError
from edgescope.measures.arguments import Optimizers, checked_evaluations, checked_objective, checked_optimizers
from edgescope.measures.base import Measure, Moment, as_measure
from edgescope.measures.problem_size import ProblemSize, check_measures
from edgescope.measures.reading import Reading
from edgescope.measures.rules import NO_OPTIMIZER, rules_of
from edgescope.objective import Objective
from edgescope.short_errors import short_errors


@short_errors
@in_plain_arithmetic
def measure(
    objective: Objective,
    measure: str | Measure,
    *,
    optimizer: Optimizers | None = None,
    evaluations: dict[str, Objective] | None = None,
) -> Reading:
    """Take one measure at the present parameters of the objective's model.

    ``measure(objective, "hessian_trace").value`` is the trace, ``.error`` its standard error, ``.cost`` its cost.

    Args:
        objective: the loss to measure.
        measure: its name with options as for :class:`Monitor`, such as ``"sharpness:k=3"``, or a :class:`Measure`.
        optimizer: the optimizer, or a list of those that step the same model, for measures of the optimizer (threshold,
            effective sharpness, ratio, ...). Its options and state are read, and nothing is changed.
        evaluations: further objectives by name, such as ``{"test": objective}``, for measures with a part for each.

    Returns:
        The :class:`Reading`: values, errors and arrays by part, cost, seconds and a note. ``value`` and ``error`` are
        those of the main part.

    Raises :class:`InputError` for arguments that cannot be used, for a measure that is too large for the model, and for
    one that needs a training run (the steps taken, or parameters of several steps), and :class:`NotKnownError` where
    there is no value, such as for a measure of the optimizer without ``optimizer``. What the measure itself raises is
    passed on.

    Cost: that of the measure. A measure that keeps a warm start begins without one.
    """
    checked_objective(objective, "a measure")
    optimizers = checked_optimizers(optimizer, "a measure")
    evaluations = checked_evaluations(evaluations)
    chosen = as_measure(measure)
    if chosen.needs_run:
        raise InputError(
            f"the measure '{chosen.name}' cannot be taken without a training run: {chosen.needs_run}",
            hint="es.Monitor(objective, optimizer, measures=[...])",
        )
    size = ProblemSize(objective.size, objective.samples, objective.dtype.itemsize)
    check_measures([chosen], size)
    rules = rules_of(optimizers, objective.tensors)
    parameters = objective.parameters()
    moment = Moment(
        step=0,
        objective=objective,
        optimizer=optimizers[0] if optimizers else None,
        rule=rules.together,
        parameters=parameters,
        initial=None,
        evaluations=evaluations,
        why_no_rule=rules.why,
        optimizers=tuple(optimizers),
        rules=rules.each,
        strict=True,
    )
    with torch.no_grad():
        reading = chosen.take(moment)
    if not reading.values and not reading.arrays:
        hint = "optimizer=" if not optimizers and NO_OPTIMIZER in reading.note else None
        raise NotKnownError(f"the measure '{chosen.name}' has no value: {reading.note}", hint=hint)
    if not chosen.needs_rule:
        return reading
    caveats = [text for _, text in rules.problems]
    return replace(reading, note="; ".join(dict.fromkeys(filter(None, [reading.note, *caveats]))))
