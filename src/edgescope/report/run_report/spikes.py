"""The figure of the largest spike of the loss in a run, with the norms of the steps and the warnings before it."""

from __future__ import annotations

import contextlib

import polars as pl

from edgescope.errors import UnknownNameError
from edgescope.figures import Figure, spike_panels
from edgescope.monitor import SpikeEvent
from edgescope.store import Record

BEFORE, AFTER = 150, 100
"""Steps that are drawn before the spike and after it."""


def events_of(record: Record) -> list[SpikeEvent]:
    """The warnings and spikes of a record that was watched for them, by step; those of another form are left out."""
    found = []
    for step, kind, text, *_ in record.events().iter_rows():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            found.append(SpikeEvent.read(step, kind, text))
    return found


def spike_figure(name: str, record: Record) -> Figure | None:
    """The largest spike of a run; its last warning where no spike followed; None where it had neither, or no losses.

    The losses are those of ``training_loss`` at every step, or else of ``loss``; the norms are those that
    ``update_norm@1`` gives over their running median. Without those the losses are drawn alone.
    """
    events = events_of(record)
    if not events:
        return None
    spikes = [event for event in events if event.kind == "spike"]
    centre = max(spikes, key=lambda event: event.value) if spikes else events[-1]
    first, last = centre.step - BEFORE, centre.step + AFTER
    # A spike is noticed by the loss that its step began with, which is that of the step before.
    losses = _between(record, "training_loss", "", first, last)
    if losses.height < 2:
        losses = _between(record, "loss", "train", first, last)
    losses = losses.filter(pl.col("value") > 0)
    if losses.height < 2:
        return None
    norms = _between(record, "update_norm", "over_median", first, last)
    warnings = [event for event in events if event.kind == "warning"]
    chart = spike_panels(
        losses,
        norms if norms.height >= 2 else None,
        warnings=[event.step for event in warnings],
        spikes=[event.step for event in spikes],
        cutoff=warnings[0].threshold if warnings else None,
    )
    what = f"at step {centre.step:,}, where the loss was {centre.value:.3g} times what it had been" if spikes else ""
    caption = (
        f"Run {name}: "
        + (f"the largest of {_count(len(spikes), 'spike')}, {what}" if spikes else "the last warning")
        + f"; {_count(len(warnings), 'warning')} in the whole run. Triangles: warnings, where a step is long and the "
        "curvature along the preconditioned gradient is above the stability threshold. Crosses: spikes."
    )
    if norms.height >= 2:
        caption += (
            " Below: the norm of each step over the median of those before it; dashed: the cut-off of the warning."
        )
    return Figure("spike", "A spike of the loss and the warnings before it", caption, chart)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number:,} {what}s"


def _between(record: Record, measure: str, part: str, first: int, last: int) -> pl.DataFrame:
    """step, value of the finite readings between two steps."""
    kinds = {"step": pl.Int64, "value": pl.Float64}
    try:
        steps, values = record.series(measure, part)
    except UnknownNameError:  # not measured
        return pl.DataFrame(schema=kinds)
    table = pl.DataFrame({"step": steps, "value": values}, schema=kinds)
    return table.filter(pl.col("step").is_between(first, last), pl.col("value").is_finite())
