"""Warnings before a spike of the training loss, from the norms of the steps, and the spikes themselves, as events."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from torch import Tensor

from edgescope.errors import InputError, one_of
from edgescope.measures.arguments import kind_of
from edgescope.measures.base import is_given
from edgescope.measures.blocks import Globs, blocks_named, check_globs
from edgescope.measures.gradient_curvature import gradient_curvature
from edgescope.measures.step_norms import ENOUGH, StepNorms
from edgescope.monitor.notifier import Notifier
from edgescope.objective import Objective, on_batch
from edgescope.objective.processes import as_the_first
from edgescope.optim.rule import UpdateRule
from edgescope.options import check_fields, integer, real
from edgescope.store import Record

Kind = Literal["warning", "spike"]
KINDS: Final = get_args(Kind)

RECENT: Final = 20
"""Losses whose median is what a spike exceeds."""

LONGEST_WAIT: Final = 32
"""Steps between two products at most while steps are long and the curvature is below its cut-off."""


@dataclass(frozen=True)
class SpikeEvent:
    """A warning before a spike of the loss, or a spike, at one step of a run.

    Of a warning ``value`` is the norm of the step over the median of those before, ``threshold`` its cut-off, and
    ``curvature`` that along the preconditioned gradient over the stability threshold. ``block`` is the block whose norm
    it is, empty for all parameters. Of a spike ``value`` is the loss over what it was.
    """

    kind: Kind
    step: int
    value: float
    threshold: float
    block: str = ""
    curvature: float | None = None

    @property
    def text(self) -> str:
        """The text of the event in a record: a JSON object with all but kind and step."""
        found = {name: value for name, value in asdict(self).items() if name not in ("kind", "step")}
        return json.dumps({name: _finite(value) for name, value in found.items() if value is not None})

    @classmethod
    def read(cls, step: int, kind: str, text: str) -> SpikeEvent:
        """The event that a row of :meth:`Record.events` is; ValueError where it is none."""
        if kind not in KINDS:
            raise ValueError(f"an event of kind {kind!r}")
        data = json.loads(text)
        numbers = {name: float(data[name]) for name in ("value", "threshold", "curvature") if name in data}
        return cls(kind=kind, step=step, block=str(data["block"]), **numbers)  # type: ignore[arg-type]

    @classmethod
    def of(cls, record: Record) -> list[SpikeEvent]:
        """All warnings and spikes of a run, in the order of their steps."""
        rows = record.events().iter_rows()
        return [cls.read(step, kind, text) for step, kind, text, *_ in rows if kind in KINDS]


Callback = Callable[[SpikeEvent], object]
"""A function that is called with each event of a kind."""


@dataclass(frozen=True)
class SpikeOptions:
    """When a monitor warns of a spike.

    ``norm``: the norm of a step over the median of the ``window`` steps before, above which the curvature is measured.
    ``curvature``: that along the preconditioned gradient over the threshold, above which there is a warning. ``rise``:
    the loss over what it was, above which it is a spike. ``blocks``: globs of blocks whose norms are looked at beside
    that of all parameters, as of the measure ``block_sharpness``.
    """

    norm: float = 1.5
    curvature: float = 1.0
    rise: float = 1.2
    window: int = 100
    blocks: Globs = ()

    def __post_init__(self) -> None:
        check_fields(
            self,
            "SpikeOptions",
            norm=real(least=1),
            curvature=real(above=0),
            rise=real(above=1),
            window=integer(ENOUGH),
            blocks=check_globs,
        )


class SpikeWatch:
    """Follows the norms of the steps of a run, and gives the events of :class:`SpikeEvent` to callbacks and record.

    At every step the parameters are compared with those before. Only where a step is long is the curvature measured, of
    the objective or of the step's own batch where that is known: at that step, and again after 2, 4, ... up to 32 steps
    while steps stay long. After a warning there is none until 10 steps in a row were not long.

    The loss of a step, where the caller gives it, is compared with the median of the 20 before it, and with the largest
    of them. Otherwise the loss of the objective is measured after a warning, for as many steps as the window has, and
    compared with that at the warning.
    """

    def __init__(self, options: SpikeOptions, notifier: Notifier, record: Record) -> None:
        self.options = options
        self._notifier, self._record = notifier, record
        self._callbacks: dict[str, list[Callback]] = {kind: [] for kind in KINDS}
        owner = "SpikeOptions"
        self._norms = StepNorms(
            options.window, lambda layout: blocks_named(layout, options.blocks, owner) if options.blocks else {}
        )
        self._losses: list[float] = []
        self._rising = False  # since the spike that was told last
        self._warned = False  # and steps have stayed long, or were long lately
        self._short = 0  # steps in a row that were not long
        self._wait = self._next = 0  # steps between two products, and the step of the next
        self._until = -1  # the last step at which the loss is measured, for a spike after a warning
        self._before = math.nan  # the loss at the warning

    def on(self, kind: str, callback: Callback) -> None:
        """Call ``callback`` with each event of this kind from now on."""
        one_of(kind, KINDS, "kind of event")
        if not callable(callback):
            raise InputError(f"a callback that is {kind_of(callback)}", expected="a function of a SpikeEvent")
        self._callbacks[kind].append(callback)

    def follow(
        self, step: int, objective: Objective, rule: Callable[[], UpdateRule | None], batch: Any, loss: Any
    ) -> None:
        """Look at the step that is over: its ``batch`` and ``loss`` where the caller gave them."""
        self._norms.follow(objective)
        if loss is not None:
            self._look_at(step, float(loss.detach()) if isinstance(loss, Tensor) else float(loss))
        if step <= self._until and not is_given("loss", loss, objective):
            self._compare(step, float(objective.loss()))
        block, value = self._longest()
        long = value > self.options.norm
        if objective.group is not None:  # what follows is collective
            long = bool(as_the_first(lambda: long, objective.group))
        if not long:
            self._short += 1
            if self._short >= ENOUGH:
                self._warned, self._wait, self._next = False, 0, 0
            return
        self._short = 0
        if self._warned or step < self._next:
            return
        measured = on_batch(objective, batch) if is_given("batch", batch, objective) else objective
        curvature = gradient_curvature(measured, rule(), self._norms.step)
        if curvature > self.options.curvature:
            self._warned = True
            if not is_given("loss", loss, objective):
                self._until, self._before = step + self.options.window, float(objective.loss())
            self._tell(SpikeEvent("warning", step, value, self.options.norm, block, curvature))
        self._wait = min(max(1, 2 * self._wait), LONGEST_WAIT)
        self._next = step + self._wait

    def _longest(self) -> tuple[str, float]:
        """The block whose step is longest in units of its median, and that; 0 where nothing is known yet."""
        found = {name: self._norms.over_median(name) or 0.0 for name in self._norms.norms}
        name = max(found, key=lambda each: found[each], default="")
        return name, found.get(name, 0.0)

    def _look_at(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            return
        if len(self._losses) >= ENOUGH:
            usual = statistics.median(self._losses)
            value = _over(loss, usual)
            above = value > self.options.rise and loss > max(self._losses)
            if above and not self._rising:
                self._tell(SpikeEvent("spike", step, value, self.options.rise))
            self._rising = value > self.options.rise and (above or self._rising)
        self._losses = [*self._losses, loss][-RECENT:]

    def _compare(self, step: int, loss: float) -> None:
        value = _over(loss, self._before)
        if value > self.options.rise:
            self._until = -1
            self._tell(SpikeEvent("spike", step, value, self.options.rise))

    def _tell(self, event: SpikeEvent) -> None:
        with self._notifier.guarded("an event cannot be recorded"):
            self._record.note(event.step, event.kind, event.text)
        for callback in self._callbacks[event.kind]:
            with self._notifier.guarded(f"the function of monitor.on('{event.kind}') raised an error"):
                callback(event)

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs."""
        return {
            "norms": self._norms.state(),
            "losses": list(self._losses),
            "rising": self._rising,
            "warned": self._warned,
            "counts": [self._short, self._wait, self._next, self._until],
            "before": self._before,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`state` gave."""
        self._norms.load_state(state["norms"])
        self._losses, self._rising, self._warned = list(state["losses"]), state["rising"], state["warned"]
        self._short, self._wait, self._next, self._until = state["counts"]
        self._before = state["before"]


def checked_spikes(spikes: Any) -> SpikeOptions | None:
    """The options of ``spikes=``; None where nothing is watched."""
    if isinstance(spikes, SpikeOptions):
        return spikes
    if spikes is None or isinstance(spikes, bool):
        return SpikeOptions() if spikes else None
    raise InputError(f"spikes= is {kind_of(spikes)}", expected="True, False or SpikeOptions(...)")


def _over(loss: float, usual: float) -> float:
    """The loss over what is usual, also where losses are negative; 1 where that is zero or not known."""
    rise = (loss - usual) / abs(usual) if usual and math.isfinite(usual) else 0.0
    return 1 + rise if math.isfinite(rise) else 1.0


def _finite(value: Any) -> Any:
    """JSON has no infinity: it becomes a text that ``float`` reads."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
