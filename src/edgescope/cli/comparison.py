"""Two checkpoints of one model side by side."""

from __future__ import annotations

import math
from typing import Any

from rich import box
from rich.table import Table

from edgescope.cli.inspection import perturbation_table
from edgescope.cli.terminal import Terminal

NAMES = ("A", "B")


def compared(first: dict[str, Any], second: dict[str, Any], distance: float) -> dict[str, Any]:
    """Both inspections, and the ``distance`` of the weights, also over the norm of the first ones."""
    norm = first["parameter_norm"]
    return {
        "a": first,
        "b": second,
        "distance": distance,
        "relative_distance": distance / norm if norm > 0 else None,
    }


def show_comparison(found: dict[str, Any]) -> None:
    """A table with a row a quantity: both values and the second over the first."""
    first, second = found["a"], found["b"]
    console = Terminal()
    for name, one in zip(NAMES, (first, second), strict=True):
        console.print(f"{name}: {one['checkpoint']}", markup=False, soft_wrap=True)
    console.print(
        f"{first['parameters']:,} parameters, {first['samples']:,} samples, measured in {first['dtype']}, mode"
        f" {first['mode']}; the weights are {found['distance']:.4g} apart",
        markup=False,
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("quantity")
    for name in (*NAMES, "B/A"):
        table.add_column(name, justify="right")
    for name, one, other in _rows(first, second):
        table.add_row(name, _number(one), _number(other), _ratio(one, other))
    console.print(table)
    if first["perturbed"]:
        console.print(perturbation_table([first, second], NAMES))
    for name, one in zip(NAMES, (first, second), strict=True):
        if stability := one["stability"]:
            rate = "" if stability["lr"] is None else f" at learning rate {stability['lr']:g}"
            console.print(f"{name}: {stability['optimizer']}{rate}: {stability['verdict']}", style="bold", markup=False)
            console.print(f"  {stability['why']}", markup=False, soft_wrap=True)
    open_ends = [
        name
        for name, one in zip(NAMES, (first, second), strict=True)
        if not all(pair["converged"] for end in ("largest", "smallest") for pair in one[end])
    ]
    for name in open_ends:
        console.print(f"{name}: some eigenvalues have not converged", markup=False)
    products, seconds = (first[key] + second[key] for key in ("products", "seconds"))
    console.print(f"{products} products in {seconds:.1f} s", markup=False)


def _rows(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    rows: list[tuple[str, float | None, float | None]] = [
        ("loss", first["loss"], second["loss"]),
        ("norm of the gradient", first["gradient_norm"], second["gradient_norm"]),
        ("norm of the weights", first["parameter_norm"], second["parameter_norm"]),
    ]
    for end in ("largest", "smallest"):
        for place, pairs in enumerate(zip(first[end], second[end], strict=True), 1):
            number = place if end == "largest" else len(first[end]) + 1 - place
            name = f"{end} eigenvalue" if number == 1 else f"{end} eigenvalue, number {number}"
            rows.append((name, *(pair["value"] for pair in pairs)))
    if first["trace"]:
        rows.append(("trace of the Hessian", first["trace"]["value"], second["trace"]["value"]))
    verdicts = [one["stability"] for one in (first, second)]
    if all(verdict and verdict["ratio"] is not None for verdict in verdicts):
        rows.append(("sharpness over threshold", *(verdict["ratio"] for verdict in verdicts)))
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _ratio(first: float | None, second: float | None) -> str:
    """The second over the first, where both have the same sign."""
    if first is None or second is None or first * second <= 0 or not math.isfinite(second / first):
        return ""
    return f"{second / first:.3g}"
