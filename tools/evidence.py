"""Write the page "The state of the evidence", docs/evidence.md, and what pages of studies and the report show.

    python tools/evidence.py add FOLDER...     take findings and pictures of studies that were run, write the pages
    python tools/evidence.py                   write the pages again, after claims were added or changed

Both are made from the results in docs/evidence.json. Run it from the root of the checkout. FOLDER is that of a study,
with study.json and findings.json. A result replaces an earlier one of the same study, preset and seed; the pages show
for each claim the result of the most complete preset, and the pictures of that run.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from report_tables import with_tables
from study_pages import draw, with_evidence

from edgescope.claims import Case, Claim, Finding, read_findings
from edgescope.experiments.study_file import describe
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.studies import STUDIES, Study

DOCS = Path(__file__).parents[1] / "docs"
DATA, PAGE, REPORT = DOCS / "evidence.json", DOCS / "evidence.md", DOCS / "report.md"
PRESETS = ("quick", "full", "paper")
VERDICTS = ("holds", "mixed", "fails", "open")

Result = dict[str, Any]
"""What one run of a study found: study, preset, seed, date, command, versions, and its claims by id."""

HEAD = """# The state of the evidence

All claims of all studies, with what the most complete run of each found. The page is generated from
[evidence.json](evidence.json) by `tools/evidence.py`, and a test checks that it is up to date.
[The study `edge`](edge.md#what-is-judged) explains how a verdict follows from the cases.

- *cases*: how many hold, fail and are open. A case is a run, network, seed or sample on which the claim was tested.
- *measured*: of a single case its value and 95% confidence interval; of several the median of their values, and the
  range in brackets that all their intervals and values together cover; of a claim about an average the mean over cases.
- A preset `quick` takes minutes: it decides what can be decided in that time on small networks, and leaves the rest
  open. It is no replication of a paper. `full` has the settings for publication.
- *not run*: not with the present claims. Pages of studies show pictures of the same runs, and also quote single runs of
  earlier versions.
"""


def compact(finding: Finding) -> dict[str, Any]:
    """What the page needs of a finding, in numbers of four digits."""
    known = [case for case in finding.cases if math.isfinite(case.value)]
    if finding.pooled is not None and math.isfinite(finding.pooled[0]):
        value, low, high = finding.pooled
    else:
        value = median([case.value for case in known]) if known else math.nan
        low, high = _range(known)
    count = finding.count
    return {
        "verdict": finding.verdict,
        "claim": finding.claim,
        "expected": finding.expected,
        "cases": [count.holds, count.fails, count.open],
        "measured": [_short(number) for number in (value, low, high)],
    }


def _range(cases: list[Case]) -> tuple[float, float]:
    """What all intervals of the cases cover, with the values of those that have none; NaN where no case has one."""
    if all(math.isnan(case.low) for case in cases):
        return math.nan, math.nan
    lows, highs = [case.low for case in cases], [case.high for case in cases]
    values = [case.value for case in cases]
    ends = [bound for bound in (*lows, *highs, *values) if not math.isnan(bound)]
    return min(ends), max(ends)


def result_of(folder: Path) -> Result:
    """The result in the folder of a study, dated by the start of its first run."""
    described = describe(folder)
    if described is None:
        raise SystemExit(f"{folder} is not the folder of a study")
    places = [place for place in sorted((folder / "runs").iterdir()) if (place / FILE).exists()]
    infos = []
    for place in places:
        with Record.open(place, touch=False) as record:
            infos.append(dict(record.info))
    first = min(infos, key=lambda info: str(info["started"]))
    preset, seed = described.get("preset", "quick"), described.get("seed", 0)
    return {
        "study": described["study"],
        "preset": preset,
        "seed": seed,
        "date": str(first["started"])[:10],
        "command": f"edgescope run {described['study']} --preset {preset} --seed {seed}",
        "versions": {name: first[name] for name in ("edgescope", "torch")},
        "claims": {finding.id: compact(finding) for finding in read_findings(folder / "findings.json")},
    }


def add(results: list[Result], new: Result) -> list[Result]:
    """The results with a new one, which replaces that of the same study, preset and seed."""
    key = ("study", "preset", "seed")
    kept = [old for old in results if any(old[name] != new[name] for name in key)]
    return sorted([*kept, new], key=lambda one: (one["study"], PRESETS.index(one["preset"]), one["seed"]))


def page(results: Iterable[Result], studies: Iterable[Study]) -> str:
    """The text of the page; the same for the same results and claims."""
    results = list(results)
    parts, overview = [], []
    for study in studies:
        own = _own(study, results)
        claims = _claims(study)
        shown = {claim.id: _best(claim, own) for claim in claims}
        overview.append(_overview(study, shown))
        parts += ["", f"## {study.name}", "", f"[{study.title}]({study.name}.md): {study.paper}.", ""]
        for one in own:
            versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
            parts.append(f"- `{one['command']}`, {one['date']} ({versions})")
        parts += [] if own else ["Not run with the present claims."]
        parts += ["", "| claim | verdict | cases | measured | region | preset |", f"{'|---' * 6}|"]
        parts += [_row(claim, shown[claim.id]) for claim in claims]
    table = [
        "| study | claims | holds | mixed | fails | open | not run | presets |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([HEAD, *table, *overview, *parts]) + "\n"


def study_page(text: str, results: Iterable[Result], study: Study) -> str:
    """The text of a page of the documentation with what was found by the study, if it has the marks for it."""
    own = _own(study, results)
    rows: dict[str, list[str]] = {}
    for claim in _claims(study):
        found = _best(claim, own)
        rows.setdefault(found[1]["verdict"] if found else "not run", []).append(_row(claim, found))
    return with_evidence(text, study, own, rows)


def report_page(text: str, results: Iterable[Result], studies: Iterable[Study]) -> str:
    """The text of the technical report with the tables of what was found."""
    results = list(results)

    def row(claim: Claim) -> tuple[str, str]:
        found = _best(claim, [one for one in results if one["study"].partition(":")[0] == claim.id.partition(".")[0]])
        return found[1]["verdict"] if found else "not run", _row(claim, found)

    return with_tables(text, list(studies), row, results)


def _own(study: Study, results: Iterable[Result]) -> list[Result]:
    return [one for one in results if one["study"].partition(":")[0] == study.name]


def _claims(study: Study) -> list[Claim]:
    return [tested.claim for topic in study.topics for tested in topic.claims]


def _best(claim: Claim, results: list[Result]) -> tuple[Result, dict[str, Any]] | None:
    """The result of the most complete preset that tested this claim, the latest seed first."""
    having = [one for one in results if claim.id in one["claims"]]
    if not having:
        return None
    best = max(having, key=lambda one: (PRESETS.index(one["preset"]), one["date"]))
    return best, best["claims"][claim.id]


def _overview(study: Study, shown: dict[str, tuple[Result, dict[str, Any]] | None]) -> str:
    counts = Counter(one[1]["verdict"] if one else "not run" for one in shown.values())
    presets = sorted({one[0]["preset"] for one in shown.values() if one}, key=PRESETS.index)
    numbers = [str(counts[name]) for name in (*VERDICTS, "not run")]
    only = f"{', '.join(presets) or 'none'}{' only' if presets == ['quick'] else ''}"
    return f"| [{study.name}](#{study.name}) | {len(shown)} | {' | '.join(numbers)} | {only} |"


def _row(claim: Claim, found: tuple[Result, dict[str, Any]] | None) -> str:
    sentence = claim.sentence.replace("|", "∣").replace("*", r"\*")
    name = f"`{claim.id.partition('.')[2]}`: {sentence}"
    unit = f" {claim.unit}" if claim.unit else ""
    region = f"{claim.region.text()}{unit}".replace("|", "∣")
    if found is None:
        return f"| {name} | not run | | | {region} | |"
    result, entry = found
    holds, fails, still_open = entry["cases"]
    words = [f"{n} {word}" for n, word in ((holds, "hold"), (fails, "fail"), (still_open, "open")) if n]
    preset = result["preset"]
    if entry["claim"] != claim.sentence or f"{claim.region.text()}{unit}" not in entry["expected"]:
        preset += ", for another wording or region"
    return f"| {name} | {entry['verdict']} | {', '.join(words) or 'none'} | {_measured(entry)} | {region} | {preset} |"


def _measured(entry: dict[str, Any]) -> str:
    value, low, high = entry["measured"]
    if value is None:
        return ""
    if low is None or high is None or low == value == high:
        return f"{value}"
    return f"{value} ({low} to {high})"


def _short(number: float) -> str | float | None:
    """Four digits; None for NaN, a word for infinities."""
    if math.isnan(number):
        return None
    return float(f"{number:.4g}") if math.isfinite(number) else ("∞" if number > 0 else "-∞")


def main(arguments: list[str]) -> None:
    results: list[Result] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else []
    if arguments[:1] == ["add"]:
        for folder in map(Path, arguments[1:]):
            new = result_of(folder)
            results = add(results, new)
            study = STUDIES.build(new["study"])
            if new is _own(study, results)[-1]:
                new["figures"] = draw(study, folder)
        DATA.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    elif arguments:
        raise SystemExit(__doc__)
    studies = [STUDIES.build(name) for name in STUDIES.names()]
    PAGE.write_text(page(results, studies), encoding="utf-8")
    for study in studies:
        own = DOCS / f"{study.name}.md"
        own.write_text(study_page(own.read_text(encoding="utf-8"), results, study), encoding="utf-8")
    REPORT.write_text(report_page(REPORT.read_text(encoding="utf-8"), results, studies), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
