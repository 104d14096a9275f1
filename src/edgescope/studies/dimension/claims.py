"""The claims about the sharpness dimension, each judged from the records of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.dimension.grid import TARGETS, Correlations, correlations, family_of, grid_table
from edgescope.studies.seen import together

TUCI = "Tuci et al. 2026 (arXiv 2604.19740)"

CLOSE = 0.3
"""Differences of rank correlations that are smaller say nothing about who is best."""

SIGNS = "sign, by more than one standard deviation of τ without association"
DIMENSIONS = ("SD exact", "SD-SLQ", "SD-KDE", "SD-PS")
OTHERS = ("RDS sharpness", "PH dimension", "PH dimension, losses", "lifetime sum", "lifetime sum, losses")


def dimension_findings(runs: dict[str, Record]) -> list[Finding]:
    """A verdict on every claim of the study."""
    small, wide = (correlations(family_of(runs, name), name) for name in ("mlp", "wide"))
    return [
        _singular_values(runs),
        _attractor(runs),
        *_small_network(small),
        *_larger_network(wide),
        *_language_models(runs),
        _averaging(runs),
        _estimators(runs),
        _bulk(runs),
        _control(small),
        _fixed_rate(small),
        _simpler(small),
    ]


def _singular_values(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    if "jacobian" in runs:
        rows = runs["jacobian"].table().filter(measure="log_singular_values")
        measured = {f"η = {part}": value for part, value in rows.select("part", "value").iter_rows()}
    worst = max(measured.values(), default=np.nan)
    return Finding(
        claim="Of gradient descent the log singular values of the Jacobian are the sorted ln|1 - ηα| of the Hessian",
        source=f"{TUCI}, claim 1",
        expected="largest difference below 1e-10, in float64",
        measured=measured,
        verdict=judge(worst < 1e-10, worst),
        why="Singular values of the dense I - ηH by themselves, against the eigenvalues of H, at three learning rates.",
    )


def _attractor(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdict: Verdict = "inconclusive"
    if "attractor" in runs:
        record = runs["attractor"]
        boxes, bound = (float(record.series(name)[1][-1]) for name in ("box_dimension", "sharpness_dimension"))
        measured = {"box-counting dimension": boxes, "sharpness dimension": bound}
        measured["with the mean for the supremum"] = float(record.series("sharpness_dimension", "mean")[1][-1])
        verdict = "holds" if boxes <= bound + 0.1 else "fails"
    return Finding(
        claim="On the toy attractor the box-counting dimension lies below the sharpness dimension",
        source=f"{TUCI}, claim 2",
        expected="box-counting dimension at most the sharpness dimension, with a slack of 0.1",
        measured=measured,
        verdict=verdict,
        why="Particles that share their noise, after 250 steps. Where the bound equals the dimension of the plane, 2, "
        "it holds for any cloud and is no test.",
    )


def _small_network(found: Correlations) -> list[Finding]:
    source, noise = f"{TUCI}, claim 3", found.noise
    ph, sums, rds = ("PH dimension", "PH dimension, losses"), ("lifetime sum", "lifetime sum, losses"), OTHERS[:1]
    why = found.described
    return [
        Finding(
            claim="Small network: both persistent-homology dimensions fail to follow the gap",
            source=source,
            expected="τ at most one standard deviation above 0, for both targets",
            measured=_taus(found, ph),
            verdict=_judged([np.nan if t is None else float(t <= noise) for t in _values(found, ph)]),
            why=why,
        ),
        _signs("Small network: lifetime sums follow the gap weakly", source, found, sums, 1, why),
        _signs("Small network: the RDS sharpness of order 1 runs against the gap", source, found, rds, -1, why),
        _ranking(
            "Small network: exact SD and SD-SLQ follow the gap better than homology and RDS sharpness",
            source,
            found,
            ("SD exact", "SD-SLQ"),
            OTHERS,
            why,
        ),
        _ranking(
            "Small network: the exact SD is best of all", source, found, ("SD exact",), (*DIMENSIONS[1:], *OTHERS), why
        ),
    ]


def _larger_network(found: Correlations) -> list[Finding]:
    source = f"{TUCI}, claim 4"
    why = f"Five layers. {found.described}"
    best = _ranking("Larger network: SD-SLQ has the highest τ", source, found, ("SD-SLQ",), ("SD-KDE", *OTHERS), why)
    ph = ("PH dimension", "PH dimension, losses")
    rest = [name for name in ("SD-SLQ", "SD-KDE", *OTHERS) if name not in ph]
    granulated = _ranking(
        "Larger network: persistent homology has the highest granulated coefficient, SD-SLQ is close",
        source,
        found,
        ph,
        rest,
        f"{why} The better of the two homology dimensions counts.",
        statistic="psi",
        choose=max,
    )
    return [best, granulated]


def _language_models(runs: Mapping[str, Record]) -> list[Finding]:
    found: dict[str, Correlations] = {}
    for kind in ("sgd", "sgd-momentum", "adamw"):
        models = {n: r for n, r in runs.items() if n.startswith(f"gpt-{kind}-lr") and r.status == "finished"}
        if models:
            found[kind] = correlations(models, kind)
    adam = found.get("adamw", correlations({}, "adamw"))
    source = f"{TUCI}, claim 5"
    counts = ", ".join(f"{one.points} with {kind}" for kind, one in found.items()) or "none was run"
    why = f"Small language models on characters ({counts}), far smaller than the paper's GPT-2."
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    for kind, one in found.items():
        for name in ("SD-KDE", "SD-PS"):
            measured |= {f"{kind}, {label}": value for label, value in _taus(one, (name,)).items()}
            verdicts.append(_signs("", source, one, (name,), 1, "").verdict)
    return [
        _signs(
            "Language models under AdamW: sharpness runs against the gap",
            source,
            adam,
            ("largest eigenvalue",),
            -1,
            why,
        ),
        Finding(
            claim="Language models: SD-KDE and SD-PS follow the gap for every optimizer",
            source=source,
            expected=f"τ above 0: {SIGNS}",
            measured=measured,
            verdict=together(verdicts),
            why=why,
        ),
    ]


def _averaging(runs: Mapping[str, Record]) -> Finding:
    cells = family_of(runs, "mlp")
    differences: dict[str, float] = {}
    if cells:
        table = grid_table(cells).drop_nulls("SD exact") if "SD exact" in grid_table(cells).columns else None
        if table is not None and table.height:
            exact = table["SD exact"].to_numpy()
            differences = {
                f"{how}, median": float(np.median(table[f"exact/{key}"].to_numpy() - exact))
                for key, how in (("pooled", "pooled - sorted"), ("each", "mean of dimensions - sorted"))
            }
    smallest = min((abs(v) for v in differences.values()), default=np.nan)
    return Finding(
        claim="Averaging sorted logarithms, pooling densities and averaging dimensions give different numbers",
        source=f"{TUCI}, claim 9 (derived)",
        expected="differences far above rounding (1e-6 directions); of the order of a direction",
        measured=differences,
        verdict=judge(smallest > 1e-6, smallest),
        why="Medians over the networks of the grid, in directions, from the same Hessians of the same mini-batches.",
        status="derived and checked",
    )


def _estimators(runs: Mapping[str, Record]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    cells = family_of(runs, "mlp")
    table = grid_table(cells) if cells else None
    for name in DIMENSIONS[1:]:
        if table is None or table["SD exact"].null_count() == table.height:
            continue
        pooled, size = table["exact/pooled"].to_numpy(), table["size"].to_numpy()
        error = float(np.nanmax(np.abs(table[name].to_numpy().astype(float) - pooled) / size))
        measured[f"{name}, largest error / size"] = error
        verdicts.append("holds" if error < 0.02 else "fails")
    return Finding(
        claim="The quadrature estimators agree with the exact dimension",
        source="Edgescope's own aim",
        expected="within 2% of the number of parameters, on every network of the grid",
        measured=measured,
        verdict=together(verdicts),
        why="Against the exact dimension of the pooled density of the same mini-batches, as quadrature sees it.",
        status="our limit",
    )


def _bulk(runs: Mapping[str, Record]) -> Finding:
    cells = family_of(runs, "mlp")
    measured: dict[str, float] = {}
    verdict: Verdict = "inconclusive"
    if cells and (table := grid_table(cells).drop_nulls("SD exact")).height:
        ratio = (table["SD exact"] / table["size"]).to_numpy()
        stable = table["learning rate"].to_numpy() * table["largest eigenvalue"].to_numpy() / 2
        measured = {
            "SD / size, smallest": float(ratio.min()),
            "SD / size, largest": float(ratio.max()),
            "deficit, smallest": float((table["size"] - table["SD exact"]).min()),  # type: ignore[arg-type]
            "η·sharpness/2, median": float(np.median(stable)),
            "change by a dead zone of 1e-4": float((table["SD, dead zone"] - table["SD exact"]).abs().max()),  # type: ignore[arg-type]
        }
        verdict = "holds" if ratio.min() > 0.8 and np.median(stable) < 1 else "fails"
    return Finding(
        claim="Null and tiny negative eigenvalues make up the dimension: also below the edge it is nearly full",
        source="derived",
        expected="SD / size above 0.8 in every network, while the median sharpness lies below the threshold",
        measured=measured,
        verdict=verdict,
        why="So a dimension above 0 does not certify the edge of stability; networks differ by a few percent of it.",
        status="derived and checked on toys: 0.90 to 0.97",
    )


def _control(found: Correlations) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[str] = []
    for target in TARGETS:
        one = found.partial.get(("SD exact", target))
        if one is not None:
            measured |= {f"{target}: ρ": one.value, f"{target}: low": one.low, f"{target}: high": one.high}
            verdicts.append("holds" if one.low > 0 else "fails" if one.high < 0 else "inconclusive")
    return Finding(
        claim="The dimension says something about the gap beyond learning rate and batch size",
        source="control that the paper lacks",
        expected="partial rank correlation given log η and log batch size above 0, with its 95% interval",
        measured=measured,
        verdict=together(verdicts),
        why="η enters the dimension by its definition, so that a correlation over a grid of rates may be mechanical.",
        status="ours",
    )


def _fixed_rate(found: Correlations) -> Finding:
    names = ("SD exact, fixed η", "SD exact")
    return _signs(
        "The dimension at one fixed learning rate follows the gap too",
        "control that the paper lacks",
        found,
        names[:1],
        1,
        "The same Hessians, with one η for all; the plain dimension of each stands in the figure beside it.",
    )


def _simpler(found: Correlations) -> Finding:
    return _ranking(
        "The dimension follows the gap better than the norms of the parameters do",
        "control that the paper lacks",
        found,
        ("SD exact",),
        ("norm", "distance travelled", "path norm"),
        "What a norm tells as well needs no spectrum.",
    )


def _taus(found: Correlations, names: Sequence[str], statistic: str = "tau") -> dict[str, float]:
    known = getattr(found, statistic)
    return {f"{n}: {t}": known[n, t].value for n in names for t in TARGETS if (n, t) in known}


def _values(found: Correlations, names: Sequence[str]) -> list[float | None]:
    return [found.tau[n, t].value if (n, t) in found.tau else None for n in names for t in TARGETS]


def _judged(passed: Sequence[float]) -> Verdict:
    """From 1 (holds), 0 (fails) and NaN (was not measured)."""
    if not passed or np.isnan(passed).any():
        return "inconclusive"
    return "holds" if all(passed) else "fails"


def _signs(claim: str, source: str, found: Correlations, names: Sequence[str], sign: int, why: str) -> Finding:
    """Whether all of these have the sign, for both targets; within noise of 0 nothing is decided."""
    verdicts = []
    for value in _values(found, names):
        signed = np.nan if value is None else sign * value
        verdicts.append("holds" if signed > found.noise else "fails" if signed < -found.noise else "inconclusive")
    return Finding(
        claim=claim or "a sign",
        source=source,
        expected=f"τ {'above' if sign > 0 else 'below'} 0, for both targets: {SIGNS} ({found.noise:.2f})",
        measured=_taus(found, names),
        verdict=together(verdicts),
        why=why or "signs",
    )


def _ranking(
    claim: str,
    source: str,
    found: Correlations,
    best: Sequence[str],
    others: Sequence[str],
    why: str,
    statistic: str = "tau",
    choose: object = min,
) -> Finding:
    """Whether the (worst, or by ``choose`` best) of ``best`` lies above all others, for both targets."""
    known, verdicts = getattr(found, statistic), []
    for target in TARGETS:
        front = [known[name, target].value for name in best if (name, target) in known]
        rest = [known[name, target].value for name in others if (name, target) in known]
        if not front or not rest or (choose is min and len(front) < len(best)):
            verdicts.append("inconclusive")
            continue
        lead = choose(front) - max(rest)  # type: ignore[operator]
        verdicts.append("holds" if lead >= 0 else "inconclusive" if lead > -CLOSE else "fails")
    return Finding(
        claim=claim,
        source=source,
        expected=f"highest {'τ' if statistic == 'tau' else 'Ψ'} for both targets; up to {CLOSE} behind decides nothing",
        measured=_taus(found, [*best, *others], statistic),
        verdict=together(verdicts),
        why=why,
    )
