"""Claims about mini-batch noise: it does not lead out of a converged trap upwards, and loses features downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgescope.claims import Answer, Measured, Open
from edgescope.experiments.phases.batch_traps import BATCHES_AN_EPOCH, BRIEF, SAMPLES
from edgescope.experiments.phases.escape_estimates import escapes_expected, slope, time_ratio, with_rows
from edgescope.experiments.phases.escape_levels import Level, escapes, levels_of
from edgescope.experiments.phases.readings import Piece, pieces_of
from edgescope.experiments.selection import CaseSelection, Item, tagged, whole
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.phases.claims_escape import mode_of
from edgescope.studies.stated_claim import stated_claim

MOST = math.log(2)
"""Escapes of a network that are expected in the time in which half of all networks escape."""

NO_TRAP = "no network was trapped"
LONGER = "networks that are trapped: a longer trap, or a higher decay"


def _protocols(brief: bool) -> CaseSelection[list[Piece]]:
    """Trapped and released networks, those of the same protocol together as one case."""

    def merged(run: StudyRun) -> list[Item[list[Piece]]]:
        found: dict[str, list[Piece]] = {}
        for p in pieces_of(run, "null"):
            if (p["held"] < BRIEF) == brief:
                samples = SAMPLES[int(p["fixed"])]
                trap = run.record.config["trap"]
                name = f"{p['held']:g} epochs at decay {trap:g}, then {p['decay']:g}, {samples} samples"
                found.setdefault(name, []).append(p)
        return [Item(name, group) for name, group in found.items()]

    return tagged(kind="traps", series="protocol").expand(merged)


def _counted(trials: Sequence[Piece]) -> dict[str, float]:
    """Networks that were trapped, those of them that escaped, and the epochs that all were watched."""
    epochs = sum(p["watched"] / p.record.config["lr"] / BATCHES_AN_EPOCH for p in trials)
    return {key: sum(p[key] for p in trials) for key in ("trapped", "escaped")} | {"epochs of all networks": epochs}


def _number(trials: Sequence[Piece]) -> Answer:
    counted = _counted(trials)
    return Measured(Estimate.exact(counted["escaped"]), counted) if counted["trapped"] else Open(NO_TRAP, LONGER)


@stated_claim("phases.batches-escape-in-time", each=_protocols(brief=False))
def escape_in_time(trials: list[Piece]) -> Answer:
    counted = _counted(trials)
    if not counted["trapped"]:
        return Open(NO_TRAP, LONGER)
    answer = escapes_expected(counted["escaped"], counted["epochs of all networks"], MOST)
    return with_rows(answer, counted)


@stated_claim("phases.batches-escape-at-all", each=whole("all converged traps", kind="traps"))
def escape_at_all(runs: list[StudyRun]) -> Answer:
    return _number([p for run in runs for p in pieces_of(run, "null") if p["held"] >= BRIEF])


@stated_claim(
    "phases.biases-help",
    each=tagged(kind="biases").expand(lambda run: [Item("networks with biases", pieces_of(run, "biases"))]),
)
def biases_help(pieces: list[Piece]) -> Answer:
    kinds = {"with" if p["biases"] else "without": p for p in pieces}
    names = {"trapped": "trapped", "escaped": "escaped", "largest": "largest second singular value"}
    beside = {f"{names[key]}, {kind} biases": p[key] for kind, p in kinds.items() for key in names}
    found = kinds.get("with")
    if found is None or not found["trapped"]:
        return Open(NO_TRAP, LONGER, beside=beside)
    epochs = found["trapped"] * found["released"] / BATCHES_AN_EPOCH
    return with_rows(escapes_expected(found["escaped"], epochs, MOST), beside)


@stated_claim("phases.noise-vanishes-with-mode", each=_protocols(brief=False))
def noise_vanishes(trials: list[Piece]) -> Answer:
    rates = [p["fall"] / (-3 * p.record.config["trap"]) for p in trials if "fall" in p.values]
    return sample_mean(rates, "trials") if rates else Open("no fall below 1e-3 was seen in the trap", "a longer trap")


@stated_claim("phases.brief-traps-learn-again", each=_protocols(brief=True))
def learn_again(trials: list[Piece]) -> Answer:
    return _number(trials)


@stated_claim("phases.batches-lose-features", each=escapes(series="down"))
def lose_features(run: StudyRun) -> Answer:
    theory = float(mode_of(run).descent_slope(run.record.config["decay"]))
    return with_rows(slope([level for level in levels_of(run) if level.batch >= 5], theory), {"closed form": theory})


def _same_noise(run: StudyRun) -> list[Item[tuple[Level, Level]]]:
    found: dict[float, list[Level]] = {}
    for level in sorted(levels_of(run), key=lambda one: one.lr):
        found.setdefault(level.coldness, []).append(level)
    return [Item(f"batch/lr = {at:g}", (pair[0], pair[-1])) for at, pair in found.items() if len(pair) > 1]


@stated_claim("phases.only-batch-over-rate-counts", each=escapes(series="rates").expand(_same_noise))
def same_noise(pair: tuple[Level, Level]) -> Answer:
    return time_ratio(pair[0].times, pair[1].times)


CLAIMS = (escape_in_time, escape_at_all, biases_help, noise_vanishes, learn_again, lose_features, same_noise)
