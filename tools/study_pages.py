"""What the pages of the studies show of their most complete runs: pictures, and a table of what holds.

``tools/evidence.py`` writes it between two marks of each page, ``evidence of NAME`` and ``end of the evidence of
NAME``, from docs/evidence.json and the pictures in docs/images/studies, which it draws when a study's folder is added.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgescope.errors import InputError
from edgescope.studies import Study
from edgescope.studies.runner import opened_runs

PICTURES = Path(__file__).parents[1] / "docs" / "images" / "studies"
VERDICTS = ("holds", "mixed", "fails", "open")

SHOWN: Mapping[str, tuple[str, ...]] = {
    "edge": ("sharpness", "optimizers", "batch-sizes"),
    "geometries": ("settled", "sharpness-gpt"),
    "dimension": ("correlations-mlp", "correlations-gpt-adamw"),
    "grokking": ("training-p31-lr1-decay0_0003",),
    "tradeoff": ("tradeoff-mlp-mse", "networks", "diagonal-one-sample"),
    "flatness": ("scenarios", "explained"),
    "phases": ("loops", "coefficients", "langevin", "networks"),
    "central": ("sharpness", "distance", "distance-norms", "gap"),
}
"""The figures that the page of a study shows, by name, in reading order; a report has all of them."""

HEAD = "| claim | verdict | cases | measured | region | preset |\n|---|---|---|---|---|---|"

Entry = Mapping[str, Any]


def draw(study: Study, folder: Path) -> list[dict[str, str]]:
    """Draw the figures that the page of the study shows, from the runs in ``folder``; their names and texts."""
    with opened_runs(study, folder) as runs:
        made = {figure.name: figure for figure in study.figures(runs)}
        shown = SHOWN.get(study.name, ())
        if missing := [name for name in shown if name not in made]:
            raise InputError(f"no figure {', '.join(missing)} in {folder}", expected=f"of {', '.join(made)}")
        PICTURES.mkdir(parents=True, exist_ok=True)
        for old in PICTURES.glob(f"{study.name}-*.svg"):
            old.unlink()
        for name in shown:
            drawn = small(made[name]._repr_svg_())
            (PICTURES / f"{study.name}-{name}.svg").write_text(drawn + "\n", encoding="utf-8")
    return [{"name": name, "title": made[name].title, "caption": made[name].caption} for name in shown]


def small(svg: str) -> str:
    """The picture with a third less of text: without what a page that shows it as an image cannot use."""
    svg = re.sub(r' (?:aria-[a-z]+|role|pointer-events)="[^"<>]*"', "", svg)
    return re.sub(r' (?:d|transform)="[^"]*"', lambda found: re.sub(r"(\d\.\d\d)\d+", r"\1", found[0]), svg)


def with_evidence(page: str, study: Study, results: Sequence[Entry], rows: Mapping[str, Sequence[str]]) -> str:
    """The text of a page with the evidence on a study between its marks, or as it is where it has none.

    ``results`` are those of the study, the most complete last; ``rows`` are the cells of the table, by verdict.
    """
    return marked(
        page, f"evidence of {study.name}", f"end of the evidence of {study.name}", _evidence(study, results, rows)
    )


def marked(page: str, begin: str, end: str, text: str) -> str:
    """The page with ``text`` between the HTML comments ``begin`` and ``end``, or as it is where it lacks them."""
    before, found, rest = page.partition(f"<!-- {begin} -->")
    _, closed, after = rest.partition(f"<!-- {end} -->")
    return f"{before}<!-- {begin} -->\n\n{text}\n\n<!-- {end} -->{after}" if found and closed else page


def _evidence(study: Study, results: Sequence[Entry], rows: Mapping[str, Sequence[str]]) -> str:
    if not results:
        return "The study has not been run with the present claims."
    parts = [_summary(study, results[-1], rows)]
    parts += [_command(result) for result in results]
    for picture in results[-1].get("figures", ()):
        parts.append(f"![{picture['title']}](images/studies/{study.name}-{picture['name']}.svg)")
        parts.append(picture["caption"])
    rows_by_verdict = [row for verdict in (*VERDICTS, "not run") for row in rows.get(verdict, ())]
    return "\n\n".join([*parts, "\n".join([HEAD, *rows_by_verdict])])


def _summary(study: Study, result: Entry, rows: Mapping[str, Sequence[str]]) -> str:
    counts = Counter({verdict: len(found) for verdict, found in rows.items()})
    words = {
        "holds": ("holds", "hold"),
        "mixed": ("is mixed", "are mixed"),
        "fails": ("fails", "fail"),
        "open": ("is open", "are open"),
        "not run": ("was not run", "were not run"),
    }
    found = [
        f"{counts[name]} {one if counts[name] == 1 else many}" for name, (one, many) in words.items() if counts[name]
    ]
    text = f"Of {sum(counts.values())} claims {', '.join(found)} ([how to read the table](evidence.md))."
    if result["preset"] == "quick":
        text += " These are runs of minutes on small networks, and no replication of the paper."
    return text


def _command(result: Entry) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"`{result['command']}`, {result['date']} ({versions})."
