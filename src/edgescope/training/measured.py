"""The measures of a configuration, taken of one network of a stack."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from edgescope.measures import Moment, Reading
from edgescope.monitor.order import in_order
from edgescope.optim import rule_for
from edgescope.store import Record
from edgescope.training.parts import Parts


def measured_at(
    parts: Parts, record: Record, w: Float[Tensor, " P"], initial: Float[Tensor, " P"], step: int
) -> list[Reading]:
    """All measures of the configuration of ``parts``, at the parameters ``w`` after ``step`` steps from ``initial``.

    The model of ``parts`` is left with the parameters ``w``. Path and threads are stored in ``record``; the readings
    are not.
    """
    config = parts.config
    how = {"path": config.path or "kept", "threads": config.threads or 1}
    objective = parts.objective(parts.samples, "eval", **how)
    objective.assign(w)
    record.set_info("measured", {"samples": objective.samples, "parameters": objective.size, "mode": "eval"})
    record.set_info("plan", how)
    record.set_info("tensors", [slot.name for slot in objective.layout])
    moment = Moment(
        step=step,
        objective=objective,
        optimizer=parts.optimizer,
        rule=rule_for(parts.optimizer, objective.tensors),
        parameters=w,
        initial=initial,
        time=config.lr * step,
        evaluations=parts.evaluations(**how),
    )
    return [moment.get(measure) for measure in in_order(config.measures)[0]]
