"""Claims about mini-batch noise: it does not lead out of a converged trap upwards, and loses features downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgescope.claims import Region
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.phases.claims_escape import CENSORED, mode_of
from edgescope.studies.phases.intervals import EPOCHS, escapes_expected, slope, time_ratio, with_rows
from edgescope.studies.phases.readings import ERSOY, REPLICATION, Level, Piece, escapes, levels_of, pieces_of
from edgescope.studies.phases.traps import BATCHES_AN_EPOCH, SAMPLES
from edgescope.studies.selection import Item, Selection, tagged, whole
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Answer, Measured, Open, claim

BRIEF = 1000
"""Epochs below which a trap has been held too briefly to be converged."""

MOST = math.log(2)
"""Escapes of a network that are expected in the time in which half of all networks escape."""

NO_TRAP = "no network was trapped"
LONGER = "networks that are trapped: a longer trap, or a higher decay"


def _protocols(brief: bool) -> Selection[list[Piece]]:
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


PROTOCOL = (
    "Trapped at decay 0.38 for 2,000 epochs, then released to 0.32, 0.25 and 0.03, with batches of 64, fresh or of 512 "
    "whitened samples. Wang and Jacot 2023 (arXiv 2305.16038) prove for a similar problem that there is no escape. "
    "Samples that escaped in the paper need not have been trapped: their own critical decay may lie above."
)


@claim(
    "phases.batches-escape-in-time",
    sentence=f"Most networks escape upwards from the trap by mini-batch noise within {EPOCHS:,} epochs",
    source=f"{ERSOY}, claim 2 and its Kramers picture",
    quantity=f"escapes expected of a trapped network in {EPOCHS:,} epochs",
    region=(MOST, math.inf),
    origin="the paper: half of all networks escape in the time in which ln 2 escapes are expected",
    each=_protocols(brief=False), figure="null",
    how=f"{PROTOCOL} The interval is Garwood's for the number of escapes in the epochs that all networks were watched.",
)  # fmt: skip
def escape_in_time(trials: list[Piece]) -> Answer:
    counted = _counted(trials)
    if not counted["trapped"]:
        return Open(NO_TRAP, LONGER)
    answer = escapes_expected(counted["escaped"], counted["epochs of all networks"], MOST)
    return with_rows(answer, counted)


@claim(
    "phases.batches-escape-at-all",
    sentence="Mini-batch descent escapes upwards from a converged trap, as grokking does",
    source=f"{ERSOY}, claim 2 and its Kramers picture",
    quantity="trapped networks that escaped while they were watched",
    region=(2, math.inf), origin="ours: two, since a single one may not have been trapped for good",
    each=whole("all converged traps", kind="traps"), scope="some", figure="null", how=PROTOCOL,
)  # fmt: skip
def escape_at_all(runs: list[StudyRun]) -> Answer:
    return _number([p for run in runs for p in pieces_of(run, "null") if p["held"] >= BRIEF])


@claim(
    "phases.biases-help",
    sentence="Biases help mini-batch descent out of the trap",
    source="an independent check of ours by automatic differentiation",
    quantity=f"escapes expected of a trapped network with biases in {EPOCHS:,} epochs",
    region=(MOST, math.inf), origin="ours: as many as the paper's picture needs",
    each=tagged(kind="biases").expand(lambda run: [Item("networks with biases", pieces_of(run, "biases"))]),
    status="ours", scope="some",
    how="Layers of torch's own, signals 0.9 and 0.65, trapped at decay 0.38, then at 0.15, batches of 64 of 512 "
    "whitened samples. An earlier replication saw none of 6 escape.",
)  # fmt: skip
def biases_help(pieces: list[Piece]) -> Answer:
    kinds = {"with" if p["biases"] else "without": p for p in pieces}
    names = {"trapped": "trapped", "escaped": "escaped", "largest": "largest second singular value"}
    beside = {f"{names[key]}, {kind} biases": p[key] for kind, p in kinds.items() for key in names}
    found = kinds.get("with")
    if found is None or not found["trapped"]:
        return Open(NO_TRAP, LONGER, beside=beside)
    epochs = found["trapped"] * found["released"] / BATCHES_AN_EPOCH
    return with_rows(escapes_expected(found["escaped"], epochs, MOST), beside)


@claim(
    "phases.noise-vanishes-with-mode",
    sentence="The noise of an unlearned mode vanishes with it, so that the trap only deepens",
    source="derived here: gradient noise carries w^(D-1)",
    quantity="rate at which the second singular value falls in the trap / (3 decay)",
    region=Region.around(1, 0.05),
    origin="derived: exp(-3 decay t) is the fall by weight decay alone; 5% for the fit",
    each=_protocols(brief=False), status="derived", scope="average", figure="null",
    how="Median over networks, fitted from 1e-3 to 1e-13, under batches of 64: noise and gradient add nothing. The "
    "quasi-potential, the integral of dE/T(w), diverges at zero.",
)  # fmt: skip
def noise_vanishes(trials: list[Piece]) -> Answer:
    rates = [p["fall"] / (-3 * p.record.config["trap"]) for p in trials if "fall" in p.values]
    return sample_mean(rates, "trials") if rates else Open("no fall below 1e-3 was seen in the trap", "a longer trap")


@claim(
    "phases.brief-traps-learn-again",
    sentence="Networks trapped too briefly learn again from the weights that are left, which looks like escape",
    source=REPLICATION,
    quantity="networks with a second singular value below 1e-3 that learn again",
    region=(1, math.inf), origin="ours: one shows it; the earlier replication had 6 of 40",
    each=_protocols(brief=True), status="ours", scope="some",
    how="The same protocol with a shorter trap, then decay 0.03. Without noise a mode learns again while its weight "
    "is above decay / signal.",
)  # fmt: skip
def learn_again(trials: list[Piece]) -> Answer:
    return _number(trials)


@claim(
    "phases.batches-lose-features",
    sentence="Downwards mini-batch noise alone loses a feature, with the predicted slope",
    source="derived here: T(w) of mini-batch noise",
    quantity="slope of ln(mean time) against batch/lr, over the integral of |dE|/T(w)",
    region=Region.around(1, 0.15), origin="ours: corrections to an escape at finite noise",
    each=escapes(series="down"), status="derived", figure="batches",
    how=f"Rank 2 to 1, signal 0.8, decay 0.33, fresh batches of 5 and more. {CENSORED} Features are lost by this "
    "noise, none is gained.",
)  # fmt: skip
def lose_features(run: StudyRun) -> Answer:
    theory = float(mode_of(run).descent_slope(run.record.config["decay"]))
    return with_rows(slope([level for level in levels_of(run) if level.batch >= 5], theory), {"closed form": theory})


def _same_noise(run: StudyRun) -> list[Item[tuple[Level, Level]]]:
    found: dict[float, list[Level]] = {}
    for level in sorted(levels_of(run), key=lambda one: one.lr):
        found.setdefault(level.coldness, []).append(level)
    return [Item(f"batch/lr = {at:g}", (pair[0], pair[-1])) for at, pair in found.items() if len(pair) > 1]


@claim(
    "phases.only-batch-over-rate-counts",
    sentence="Only batch/lr counts: mean times at the same ratio agree",
    source="derived here: T(w) of mini-batch noise",
    quantity="mean time (steps times learning rate) / that with learning rate and batch twice as large",
    region=(0.75, 4 / 3), origin="ours: 25% for learning rates that are not small",
    each=escapes(series="rates").expand(_same_noise), status="derived", figure="batches",
    how="The same networks, learning rate and batch size doubled together.",
)  # fmt: skip
def same_noise(pair: tuple[Level, Level]) -> Answer:
    return time_ratio(pair[0].times, pair[1].times)


CLAIMS = (
    escape_in_time, escape_at_all, biases_help, noise_vanishes, learn_again, lose_features, same_noise,
)  # fmt: skip
