"""What the tables of a report say of each run: how it was configured, how it ended, what was spent on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgescope.report.run_report.optimizers import optimizer_text, rate_of
from edgescope.store import Record


def run_row(name: str, record: Record) -> dict[str, Any]:
    """What the report's tables say of one run: its configuration, how it ended, and what was spent on it."""
    config, info = record.config, record.info
    measured, plan = (part if isinstance(part := info.get(key), dict) else {} for key in ("measured", "plan"))
    chosen = ("data", "model", "loss", "optimizer", "lr", "batch", "train", "test", "seed")
    known = {"optimizer": optimizer_text(info.get("optimizers")), "lr": rate_of(info.get("optimizers"))}
    configured = {key: config[key] for key in chosen if config.get(key) is not None}
    return {
        "run": name,
        **{key: value for key, value in known.items() if value is not None and key not in configured},
        **configured,
        "steps": record.last_step,
        "parameters": measured.get("parameters"),
        "mode": measured.get("mode"),
        "precision": measured.get("dtype"),
        "status": record.state,
        **spent(record),
        "seconds": info.get("seconds"),
        **plan,
    }


def spent(record: Record) -> dict[str, int]:
    """The losses, gradients and products that the measurements of a run asked for."""
    costs = record.costs()
    return {key: int(costs[key].sum()) for key in ("losses", "gradients", "products")}


def total_cost(runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over the rows of all runs; of seconds those of the runs that noted them, and how many did if not all."""
    kept = list(runs)
    total: dict[str, Any] = {key: sum(row[key] for row in kept) for key in ("losses", "gradients", "products")}
    seconds = [row["seconds"] for row in kept if isinstance(row["seconds"], int | float)]
    if len(seconds) == len(kept):
        return total | {"seconds of all runs": sum(seconds, 0.0)}
    known = sum(seconds, 0.0) if seconds else "not known: no run was closed"
    return total | {f"seconds of {len(seconds)} of {len(kept)} runs" if seconds else "seconds of all runs": known}


def versions_of(record: Record) -> dict[str, Any]:
    """The versions and the commit that a run was made with."""
    info, named = record.info, ("edgescope", "torch", "numpy", "python", "platform", "commit", "started")
    return {key: info.get(key) for key in named}
