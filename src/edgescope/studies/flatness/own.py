"""The user's own network: does SAM flatten it, did the test error follow, and what does rescaling its layers change?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.flatness.runs import RADII
from edgescope.studies.flatness.seen import interval
from edgescope.studies.seen import together

SAME = 1e-4
"""Relative change of a loss that is rounding in float32."""


def own_findings(runs: Mapping[str, Record]) -> list[Finding]:
    """The general questions, on the network, data and loss that the study was given."""
    known = own_runs(runs)
    flatter, followed, measured = [], [], dict[str, float]()
    for optimizer, records in known.items():
        for what, key in (
            ("trace", ("hessian_trace", "")),
            ("sharpness", ("sharpness", "1")),
            ("adaptive sharpness", ("worst_case_sharpness", "")),
            ("test accuracy", ("accuracy", "test")),
        ):
            measured[f"{optimizer}: {what}"] = float(np.mean([last(r, *key) for r in records]))
        if optimizer == "SGD" or "SGD" not in known:
            continue
        traces = _differences(known["SGD"], records, "hessian_trace", "")
        sharp = _differences(known["SGD"], records, "sharpness", "1")
        flatter.append(judge(bool((traces < 0).all() and (sharp < 0).all()), *traces, *sharp))
        low, _, high = interval(_differences(known["SGD"], records, "accuracy", "test"))
        followed.append("holds" if low > 0 else "fails" if high < 0 else "inconclusive")
    network, spec = _network(next((r for records in known.values() for r in records), None))
    flat: Verdict = together(flatter)
    return [
        Finding(
            claim=f"SAM flattens {network}",
            source="the general question",
            expected="trace and largest eigenvalue of the Hessian below those of SGD, at every radius and seed",
            measured=measured,
            verdict=flat,
            why=f"At the end of equally many steps from the same starts; means over seeds.{spec}",
            status="ours",
        ),
        Finding(
            claim=f"Where SAM flattens {network}, the test error falls",
            source="the general question",
            expected="test accuracy above that of SGD with the same seed, its 95% interval over seeds above 0, at "
            "every radius",
            measured={k: v for k, v in measured.items() if k.endswith(("trace", "test accuracy"))},
            verdict=together(followed) if flat == "holds" else "inconclusive",
            why="Paired differences over seeds, by Student's t; intervals of few seeds are wide.",
            status="ours",
        ),
        _rescaled(runs.get("own-rescaled"), network),
    ]


def own_runs(runs: Mapping[str, Record]) -> dict[str, list[Record]]:
    """Its finished runs, by "SGD" and "SAM" with the radius."""
    known = {
        optimizer: [r for name, r in runs.items() if name.startswith(f"own-{optimizer}-") and r.status == "finished"]
        for optimizer in ("SGD", *(f"SAM{rho:g}" for rho in RADII))
    }
    return {optimizer: records for optimizer, records in known.items() if records}


def _network(record: Record | None) -> tuple[str, str]:
    """The network in a few words, and in all of them."""
    if record is None:
        return "the network of your choice", ""
    model, data = (str(record.config[key]) for key in ("model", "data"))
    short = f"{model.partition(':')[0]} on {data.partition(':')[0]}"
    return short, f" The network is {model} on {data}."


def last(record: Record, measure: str, part: str = "") -> float:
    """The last value of a series, NaN without one."""
    try:
        return float(record.series(measure, part)[1][-1])
    except (ValueError, IndexError):
        return np.nan


def _differences(plain: list[Record], other: list[Record], measure: str, part: str) -> np.ndarray:
    """Of the runs with the same seed."""
    before = {record.config["seed"]: last(record, measure, part) for record in plain}
    return np.array([last(r, measure, part) - before.get(r.config["seed"], np.nan) for r in other])


def _rescaled(record: Record | None, network: str) -> Finding:
    """Dinh et al.: the first layer times a factor, the second over it."""
    measured: dict[str, float] = {}
    verdict: Verdict = "inconclusive"
    if record is not None and record.status == "finished":
        table = record.table().filter(pl.col("part").is_in(["", "1", "train"]), pl.col("value").is_not_null())
        for title, measure in (
            ("loss", "loss"),
            ("trace", "hessian_trace"),
            ("sharpness", "sharpness"),
            ("adaptive sharpness", "worst_case_sharpness"),
        ):
            values = table.filter(measure=measure).sort("step")["value"].to_numpy()
            if len(values) > 1:
                measured |= {f"{title}: first": float(values[0]), f"{title}: rescaled": float(values[-1])}
        if {"loss: first", "sharpness: first"} <= measured.keys():
            kept = abs(measured["loss: rescaled"] / measured["loss: first"] - 1) <= SAME
            changed = measured["sharpness: rescaled"] / measured["sharpness: first"] > 2
            verdict = judge(changed) if kept else "inconclusive"
    return Finding(
        claim=f"Rescaling the layers of {network} changes its sharpness, and not the function",
        source="Dinh et al. 2017 (arXiv 1703.04933)",
        expected=f"the same loss to {SAME:g}, a largest eigenvalue more than twice as large",
        measured=measured,
        verdict=verdict,
        why="The first layer is multiplied by 8, the second divided by it. Inconclusive where the loss changes: then "
        "there is no relu between these layers. Adaptive sharpness does not change, up to the search for its maximum.",
        status="from the paper",
    )
