"""The tables of docs/report.md that come from the results of studies: counts of verdicts, and the main claims.

``tools/evidence.py`` writes them between marks of the page, from docs/evidence.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from study_pages import HEAD, marked

from edgescope.claims import Claim
from edgescope.studies import Study

PUBLISHED = ("from the paper", "second hand")
"""How well a claim is known that is the statement of a paper; all others were derived here or are ours."""

MAIN: Mapping[str, str] = {
    "edge": """flow-sharpens-further gd-settles rmsprop-settles adam-settles polyak-settles nesterov-settles
        sharpness-falls-with-batch batch-sharpness-settles nadam-settles pair-settles sam-settles clipped-settles
        muon-exceeds headroom-settles""",
    "geometries": """gd-sharpness gd-settles linf-smoothness linf-sharpness blocks-smoothness spectral-smoothness
        spectral-sharpness sign-sharpness spectral-normalized-sharpness plain-eigenvalue sharpness-above-eigenvalue
        descent-identity rises-exactly-above model-diverges""",
    "dimension": """singular-values attractor nearly-full below-edge small-exact-best small-rds-against larger-slq-best
        gpt-every-optimizer fixed-rate beyond-settings better-than-norms""",
    "grokking": """memorise-first moves-before rises-before-jump drops-at-jump rises-after-jump others-fall
        clearest-change""",
    "tradeoff": """aligned-sharpness aligned-l1-norm edge norm-grows norm-grows-linearly bends-at-critical
        digits-mse-has-u images-ce-has-u images-mse-has-no-u lowest-off-least-norm one-sample-best-inside
        one-sample-l1-rises-and-falls several-samples-best-inside""",
    "flatness": """no-bias-generalizes batchnorm-generalizes bias-flatter bias-fails bias-first-generalizes
        bias-degenerates reaches-least-trace closed-forms-flattest flattest-generalize flattest-memorize explains-error
        samples-d-log-d user-trace-falls user-error-follows""",
    "phases": """samples-critical-decays loop-area two-layers-no-loop descent-never-learns-again kramers-time
        arrhenius-slope escape-without-memory printed-loss quoted-saddle quoted-barrier rank-2-global-minimum
        batches-escape-in-time jump-without-noise networks-have-loops addition-barrier""",
    "central": """gd-follows gd-corrected gd-loss gd-covariance rmsprop-follows rmsprop-loss two-point-follows
        multiplier-linf gap-half gap-quarter""",
}
"""The claims that the report shows, by the study that tests them."""

Row = Callable[[Claim], tuple[str, str]]
"""The verdict on a claim, and its row in a table."""


def with_tables(page: str, studies: Sequence[Study], row: Row, results: Sequence[Mapping[str, Any]]) -> str:
    """The text of the report with the tables between their marks; ``results`` are the runs with their commands."""
    page = marked(page, "counts of verdicts", "end of the counts of verdicts", _counts(studies, row))
    for study in studies:
        table = _main(study, MAIN.get(study.name, "").split(), row)
        page = marked(page, f"main claims of {study.name}", f"end of the main claims of {study.name}", table)
    return marked(page, "commands of runs", "end of the commands of runs", _commands(results))


def _counts(studies: Sequence[Study], row: Row) -> str:
    lines = ["| study | published claims | claims derived here, or ours |", "|---|---|---|"]
    total: Counter[tuple[bool, str]] = Counter()
    for study in studies:
        found: Counter[tuple[bool, str]] = Counter()
        for claim in _claims(study):
            found[claim.status in PUBLISHED, row(claim)[0]] += 1
        total += found
        lines.append(f"| [{study.name}]({study.name}.md) | {_cells(found)} |")
    return "\n".join([*lines, f"| all | {_cells(total)} |"])


def _commands(results: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| run | date | versions |", "|---|---|---|"]
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        lines.append(f"| `{result['command']}` | {result['date']} | {versions} |")
    return "\n".join(lines)


def _cells(found: Counter[tuple[bool, str]]) -> str:
    words = {"holds": "hold", "mixed": "mixed", "fails": "fail", "open": "open", "not run": "not run"}
    cells = (
        ", ".join(f"{found[published, verdict]} {word}" for verdict, word in words.items() if found[published, verdict])
        for published in (True, False)
    )
    return " | ".join(cells)


def _main(study: Study, ids: Sequence[str], row: Row) -> str:
    claims = {claim.id.partition(".")[2]: claim for claim in _claims(study)}
    return "\n".join([HEAD, *(row(claims[name])[1] for name in ids)])


def _claims(study: Study) -> list[Claim]:
    return [tested.claim for topic in study.topics for tested in topic.claims]
