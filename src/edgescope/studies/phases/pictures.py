"""The pictures of the study `phases`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from edgescope.figures import Figure, arrhenius_lines, hysteresis_loops, loss_curves, stacked_panels, survival_curves
from edgescope.store import Record
from edgescope.studies.phases.claims_of_escape import coldest
from edgescope.studies.phases.pictures_of_networks import network_figures
from edgescope.studies.phases.source import Piece, escapes_of, pieces_of
from edgescope.studies.phases.sweeps import HIGHEST, SIGNALS
from edgescope.theory.deep_linear import Mode

KINDS = {
    "kramers": "chain, Langevin",
    "langevin-h4": "width 4, Langevin",
    "langevin-h10": "width 10, Langevin",
    "batches-h10": "width 10, batches, downwards",
}


def phase_figures(runs: Mapping[str, Record]) -> list[Figure]:
    drawn = (_loops, _arrhenius, _distributions, _null, _sparse, _staged, network_figures)
    return [figure for draw in drawn for figure in draw(runs)]


def _loops(runs: Mapping[str, Record]) -> list[Figure]:
    rows = []
    sweeps = {p.note: p for p in pieces_of(runs, "sweeps", "sweep", ("decays", "up", "down"))}
    for name, p in sweeps.items():
        for way in ("up", "down"):
            for decay, overlap in zip(p.arrays["decays"], p.arrays[way][:, 0], strict=True):
                rows.append((name, way, decay, overlap))
    if not rows:
        return []
    table = pl.DataFrame(rows, schema=["panel", "way", "decay", "order"], orient="row")
    marks = {name: Mode(int(p.values["depth"]), SIGNALS[0]).critical_decay() for name, p in sweeps.items()}
    return [
        Figure(
            "loops",
            "Weight decay up and down: hysteresis",
            "End-to-end strength of the mode of signal 1 as decay rises (circles) and falls again (squares). Dashed: "
            "the critical decay. Without noise the way back never leaves zero; with Langevin noise the loop closes, "
            "later the faster the sweep; two layers have none.",
            hysteresis_loops(
                table, marks={name: at for name, at in marks.items() if at < HIGHEST}, y_title="strength p"
            ),
        )
    ]


def _arrhenius(runs: Mapping[str, Record]) -> list[Figure]:
    figures = []
    for name, tasks, title, words, x_title in (
        (
            "langevin",
            {"kramers": "chain, signal 1", "langevin-h4": "width 4", "langevin-h10": "width 10"},
            "Escape upwards under Langevin noise",
            "Mean escape time (steps times learning rate) with 95% intervals. Dashed: Kramers and Langer for the "
            "chain, without a free constant. Networks escape faster than chains, and less steeply: entropy.",
            "1 / T",
        ),
        (
            "batches",
            {"batches-chain": "chain", "batches-h10": "width 10", "batches-rates": "width 10, η twice as large"},
            "Loss of a feature under mini-batch noise",
            "The same for the way down, against batch size over learning rate. Dashed: the predicted slope, through "
            "the first point of the chain. Twice the rate with twice the batch falls on the same line.",
            "batch / η",
        ),
    ):
        rows = []
        for task, label in tasks.items():
            for one in escapes_of(runs, task):
                if one.times.escapes >= 2 and (task != "batches-rates" or one.lr > 0.05):
                    mean = one.times.mean()
                    rows.append((label, one.coldness, mean.low, mean.value, mean.high))
        if not rows:
            continue
        table = pl.DataFrame(rows, schema=["run", "x", "low", "middle", "high"], orient="row")
        first = table.filter(run=rows[0][0])
        x = np.linspace(first["x"].min(), first["x"].max(), 40)  # type: ignore[type-var, arg-type]
        if name == "langevin":
            y = np.asarray(Mode(3, 1.0).kramers_time(0.3, 1 / x))
        else:
            y = first["middle"][0] * np.exp(Mode(3, 0.8).descent_slope(0.33) * (x - x[0]))
        expected = pl.DataFrame({"x": x, "y": y})
        figures.append(Figure(name, title, words, arrhenius_lines(table, expected, x_title=x_title)))
    return figures


def _distributions(runs: Mapping[str, Record]) -> list[Figure]:
    tables = []
    for task, name in KINDS.items():
        one = coldest(runs, task)
        if one is not None:
            at, share = one.times.survival()
            scaled = {"time": [0.0, *at / one.times.mean().value], "share": [1.0, *share]}
            tables.append(pl.DataFrame(scaled).with_columns(run=pl.lit(name)))
    if not tables:
        return []
    return [
        Figure(
            "distributions",
            "How escape times are distributed",
            "Share of the replicas that have not escaped (Kaplan and Meier), at the coldest level of each kind, "
            "against time over its mean. Dashed: exponential, without memory. A flat start is a lag.",
            survival_curves(pl.concat(tables)),
        )
    ]


def _null(runs: Mapping[str, Record]) -> list[Figure]:
    found = [p for p in pieces_of(runs, "null", "null", ("fall", "fall_at")) if p.values["held"] >= 1000]
    if not found:
        return []
    p = found[0]
    lr = float(runs["null"].config["lr"])
    time, fall = p.arrays["fall_at"] * lr, p.arrays["fall"]
    shown = fall > 1e-14
    start = int(np.argmax(fall < 1e-3))
    expected = fall[start] * np.exp(-3 * 0.38 * (time[shown] - time[start]))
    rows = pl.concat(
        pl.DataFrame({"run": [run] * int(shown.sum()), "time": time[shown], "loss": values})
        for run, values in (("median network", fall[shown]), ("exp(-3 decay t)", expected))
    ).filter(pl.col("loss") < 2)
    return [
        Figure(
            "null",
            "Why mini-batch noise does not escape upwards",
            "Second singular value in the trap, under batches of 64: once the mode is lost it falls at the rate of "
            "weight decay alone, and the noise that could bring it back falls with it. Below 1e-14 is rounding.",
            loss_curves(rows, x="time", title="second singular value"),
        )
    ]


def _sparse(runs: Mapping[str, Record]) -> list[Figure]:
    figures = []
    pieces = pieces_of(runs, "sparse", "sparse", ("delays", "at", "losses"))
    for name, held, title, words in (
        (
            "sparse",
            (250, 290, 300, 350),
            "Grokking without noise: released on 25 samples after a trap",
            "Full-batch descent after traps of so many steps, the same 25 samples. Solid: loss on the 25 samples; "
            "dashed: on the population. The jump comes later the longer the trap, and from 350 steps on never.",
        ),
        (
            "sparse-noise",
            (3000,),
            "Grokking by noise: a converged trap, Langevin noise",
            "After a trap of 3,000 steps, from which descent never escapes, for two decays and temperatures. Solid: "
            "loss on the 25 samples; dashed: on the population. Both fall together.",
        ),
    ):
        tables = []
        draw = _typical(pieces, noisy=name == "sparse-noise")
        drawn = [p for p in pieces if p.values["held"] in held and (p.values["temperature"] > 0) == ("noise" in name)]
        jumps = [p.arrays["delays"][draw] for p in drawn if np.isfinite(p.arrays["delays"][draw])]
        end = 2 * max(jumps, default=np.inf)
        for p in drawn:
            noisy = p.values["temperature"] > 0
            label = f"decay {p.values['decay']:g}" if noisy else f"{p.values['held']:g} steps"
            losses = p.arrays["losses"][draw]
            for split, values in zip(("train", "test"), losses, strict=True):
                shown = {"step": p.arrays["at"], "loss": values}
                table = pl.DataFrame(shown).filter(pl.col("step") <= end)
                tables.append(table.with_columns(run=pl.lit(label), split=pl.lit(split)))
        if tables:
            figures.append(Figure(name, title, words, loss_curves(pl.concat(tables), title="loss ½|f − y|²")))
    return figures


def _typical(pieces: Sequence[Piece], noisy: bool) -> int:
    """The draw of the samples with the middle delay, of those that escaped, in the last piece where two did."""
    for p in reversed([p for p in pieces if (p.values["temperature"] > 0) == noisy]):
        escaped = np.flatnonzero(np.isfinite(p.arrays["delays"]))
        if len(escaped) >= 2:
            return int(escaped[np.argsort(p.arrays["delays"][escaped])[len(escaped) // 2]])
    return 0


def _staged(runs: Mapping[str, Record]) -> list[Figure]:
    found = pieces_of(runs, "staged", "staged", ("at", "shown"))
    if not found:
        return []
    at, shown = found[0].arrays["at"], found[0].arrays["shown"]
    end = 3 * at[int(np.argmax(shown[:, 1] > shown[:, 1].max() / 2))] or at[-1]
    tables = [
        pl.DataFrame({"step": at, "value": shown[:, k]})
        .filter(pl.col("step") <= end)
        .with_columns(panel=pl.lit(f"singular value {k + 1}"), run=pl.lit("one network"))
        for k in (0, 1)
    ]
    return [
        Figure(
            "staged",
            "Rank 0 to 1 to 2, in stages",
            "Singular values of the end-to-end map of one network under Langevin noise at T = 0.0005, from zero.",
            stacked_panels(pl.concat(tables)),
        )
    ]
