"""The pictures of the study `phases`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from edgescope.experiments.phases.batch_traps import BRIEF
from edgescope.experiments.phases.escape_levels import Level, coldest, levels_of, mean_times
from edgescope.experiments.phases.readings import Piece, pieces_of
from edgescope.experiments.phases.sweeps import HIGHEST, SIGNALS
from edgescope.experiments.selection import run_tagged, tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.figures import Figure, arrhenius_lines, hysteresis_loops, loss_curves, stacked_panels, survival_curves
from edgescope.figures.chart import Chart
from edgescope.studies.phases.figures_coefficient import coefficient_figure
from edgescope.studies.phases.figures_networks import network_figures
from edgescope.theory.deep_linear import Mode


def phase_figures(runs: Runs) -> list[Figure]:
    """The pictures that the records allow, in reading order."""
    drawn = (_loops, _langevin, _batches, _distributions, _null, _sparse, _sparse_noise, _staged, coefficient_figure)
    return [figure for draw in drawn if (figure := draw(runs)) is not None] + network_figures(runs)


def _loops(runs: Runs) -> Figure | None:
    run = run_tagged(runs, kind="sweeps")
    sweeps = {p.note: p for p in pieces_of(run, "sweep")}.values() if run else ()
    rows = [
        (p.note, way, decay, overlap)
        for p in sweeps
        for way in ("up", "down")
        for decay, overlap in zip(p.array("decays"), p.array(way)[:, 0], strict=True)
    ]
    if not rows:
        return None
    table = pl.DataFrame(rows, schema=["panel", "way", "decay", "order"], orient="row")
    ends = {p.note: Mode(int(p["depth"]), SIGNALS[0]).critical_decay() for p in sweeps}
    marks = {name: at for name, at in ends.items() if at < HIGHEST}
    return Figure(
        "loops",
        "Weight decay up and down: hysteresis",
        "End-to-end strength of the mode of signal 1 as decay rises (circles) and falls again (squares). Dashed: the "
        "critical decay. Without noise the way back never leaves zero; with Langevin noise the loop closes, later the "
        "faster the sweep; two layers have none.",
        hysteresis_loops(table, marks=marks, y_title="strength p"),
    )


def _levels(runs: Sequence[StudyRun]) -> list[tuple[str, Level]]:
    """The levels of noise of several runs, by model; of those that compare learning rates the larger one."""
    found = []
    for run in runs:
        levels, compared = levels_of(run), run.tags["series"] == "rates"
        least = min((level.lr for level in levels), default=0.0) if compared else 0.0
        name = run.tags["model"] + ", η twice as large" * compared
        found += [(name, level) for level in levels if level.lr > least]
    return found


def _range(table: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """The rows of the first run, and points over their range."""
    first = table.filter(run=table["run"][0]).sort("x")
    return first, np.linspace(first["x"][0], first["x"][-1], 40)


def _langevin(runs: Runs) -> Figure | None:
    series = [run for name in ("chain", "cold") for run in _tagged(runs, kind="escapes", series=name)]
    table = mean_times(_levels(series))
    if table.is_empty():
        return None
    _, x = _range(table)
    expected = pl.DataFrame({"x": x, "y": np.asarray(Mode(3, 1.0).kramers_time(0.3, 1 / x))})
    return Figure(
        "langevin",
        "Escape upwards under Langevin noise",
        "Mean escape time (steps times learning rate) with 95% intervals. Dashed: Kramers and Langer for the chain, "
        "without a free constant. Networks escape faster than chains, and less steeply: entropy.",
        arrhenius_lines(table, expected, x_title="1 / T"),
    )


def _batches(runs: Runs) -> Figure | None:
    table = mean_times(_levels(_tagged(runs, kind="escapes", noise="batches")))
    if table.is_empty():
        return None
    first, x = _range(table)
    y = first["middle"][0] * np.exp(Mode(3, 0.8).descent_slope(0.33) * (x - x[0]))
    return Figure(
        "batches",
        "Loss of a feature under mini-batch noise",
        "The same for the way down, against batch size over learning rate. Dashed: the predicted slope, through the "
        "first point of the chain. Twice the learning rate with twice the batch falls on the same line.",
        arrhenius_lines(table, pl.DataFrame({"x": x, "y": y}), x_title="batch / η"),
    )


def _distributions(runs: Runs) -> Figure | None:
    tables = []
    for name in ("chain", "cold", "down"):
        for run in _tagged(runs, kind="escapes", series=name):
            if level := coldest(run):
                at, share = level.times.survival()
                scaled = {"time": [0.0, *at / level.times.mean().value], "share": [1.0, *share]}
                label = f"{run.tags['model']}, {run.tags['noise']}"
                tables.append(pl.DataFrame(scaled).with_columns(run=pl.lit(label)))
    if not tables:
        return None
    return Figure(
        "distributions",
        "How escape times are distributed",
        "Share of the replicas that have not escaped (Kaplan and Meier), at the coldest level of each kind, against "
        "time over its mean. Dashed: exponential, without memory. A flat start is a lag.",
        survival_curves(pl.concat(tables)),
    )


def _null(runs: Runs) -> Figure | None:
    run = run_tagged(runs, kind="traps", series="protocol")
    p = next((p for p in pieces_of(run, "null") if p["held"] >= BRIEF), None) if run else None
    if run is None or p is None:
        return None
    lr, trap = run.record.config["lr"], run.record.config["trap"]
    time, fall = p.array("fall_at") * lr, p.array("fall")
    shown = fall > 1e-14
    start = int(np.argmax(fall < 1e-3))
    expected = fall[start] * np.exp(-3 * trap * (time[shown] - time[start]))
    rows = pl.concat(
        pl.DataFrame({"run": [name] * int(shown.sum()), "time": time[shown], "loss": values})
        for name, values in (("median network", fall[shown]), ("exp(-3 decay t)", expected))
    ).filter(pl.col("loss") < 2)
    return Figure(
        "null",
        "Why mini-batch noise does not escape upwards",
        "Lost singular value in the trap, under batches of 64: once the mode is lost it falls at the rate of weight "
        "decay alone, and the noise that could bring it back falls with it. Below 1e-14 is rounding.",
        loss_curves(rows, x="time", title="lost singular value"),
    )


def _sparse(runs: Runs) -> Figure | None:
    chart = _released(runs, noisy=False, held=(250, 290, 300, 350))
    return chart and Figure(
        "sparse",
        "Grokking without noise: released on 25 samples after a trap",
        "Full-batch descent after traps of so many steps, the same 25 samples. Solid: loss on the 25 samples; dashed: "
        "on the population. The jump comes later the longer the trap, and from 350 steps on never.",
        chart,
    )


def _sparse_noise(runs: Runs) -> Figure | None:
    chart = _released(runs, noisy=True, held=(3000,))
    return chart and Figure(
        "sparse-noise",
        "Grokking by noise: a converged trap, Langevin noise",
        "After a trap of 3,000 steps, from which descent never escapes, for two decays and temperatures. Solid: loss "
        "on the 25 samples; dashed: on the population. Both fall together.",
        chart,
    )


def _released(runs: Runs, noisy: bool, held: tuple[int, ...]) -> Chart | None:
    """Losses of one draw of the samples after several traps, up to twice the latest jump."""
    run = run_tagged(runs, kind="sparse")
    found = [p for p in pieces_of(run, "sparse") if (p["temperature"] > 0) == noisy] if run else []
    draw = _typical(found)
    shown = [p for p in found if p["held"] in held]
    end = 2 * max((d for p in shown if np.isfinite(d := p.array("delays")[draw])), default=np.inf)
    tables = []
    for p in shown:
        label = f"decay {p['decay']:g}" if noisy else f"{p['held']:g} steps"
        for split, values in zip(("train", "test"), p.array("losses")[draw], strict=True):
            table = pl.DataFrame({"step": p.array("at"), "loss": values}).filter(pl.col("step") <= end)
            tables.append(table.with_columns(run=pl.lit(label), split=pl.lit(split)))
    return loss_curves(pl.concat(tables), title="loss ½|f − y|²") if tables else None


def _typical(pieces: Sequence[Piece]) -> int:
    """The draw of the samples with the middle delay, of those that escaped, in the last piece where two did."""
    for p in reversed(pieces):
        delays = p.array("delays")
        escaped = np.flatnonzero(np.isfinite(delays))
        if len(escaped) >= 2:
            return int(escaped[np.argsort(delays[escaped])[len(escaped) // 2]])
    return 0


def _staged(runs: Runs) -> Figure | None:
    run = run_tagged(runs, kind="staged")
    found = pieces_of(run, "staged") if run else []
    if not found:
        return None
    at, shown = found[0].array("at"), found[0].array("shown")
    end = 3 * at[int(np.argmax(shown[:, 1] > shown[:, 1].max() / 2))] or at[-1]
    tables = [
        pl.DataFrame({"step": at, "value": shown[:, k]})
        .filter(pl.col("step") <= end)
        .with_columns(panel=pl.lit(f"singular value {k + 1}"), run=pl.lit("one network"))
        for k in (0, 1)
    ]
    return Figure(
        "staged",
        "Rank 0 to 1 to 2, in stages",
        "Singular values of the end-to-end map of one network under Langevin noise at T = 0.0005, from zero.",
        stacked_panels(pl.concat(tables)),
    )


def _tagged(runs: Runs, **tags: str) -> list[StudyRun]:
    return [item.value for item in tagged(**tags)(runs)]
