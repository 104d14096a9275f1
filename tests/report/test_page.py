"""The report: one file that needs nothing else and says what it was given."""

from __future__ import annotations

import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import Figure, ratio_curves
from edgescope.report import Finding, read_findings, write_report

HOSTILE = """<script>alert("x")</script> & </style> {{ 7 * 7 }} 'quoted' <img src=http://example.org/a.png>"""
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Tags with attributes, text by tag, and whether every tag was closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            self.text.append(re.sub(r"[ \n]+", " ", data).strip())

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def figure(name: str, title: str = "Ratio", caption: str = "A caption.") -> Figure:
    table = pl.DataFrame({"run": ["a", "a", "b", "b"], "step": [0, 1, 0, 1], "ratio": [0.2, 0.9, 0.1, 1.0]})
    return Figure(name, title, caption, ratio_curves(table))


def finding(claim: str = "It settles", verdict: Any = "holds", **measured: float) -> Finding:
    return Finding(claim, "Cohen et al. (2021)", "a ratio of 1", measured or {"ratio": 1.0123}, verdict, "Because.")


RUNS = [
    {"run": "GD", "data": "digits", "lr": 0.02, "steps": 400, "status": "finished", "gradients": 401, "seconds": 21.5},
    {"run": "Adam", "data": "digits", "lr": 1e-4, "steps": 400, "status": "diverged", "gradients": 380, "note": "odd"},
]


def write(folder: Path, **changes: Any) -> tuple[Page, str]:
    values: dict[str, Any] = {
        "title": "The edge of stability",
        "abstract": "An abstract.",
        "paper": "Cohen et al. (2021)",
        "findings": [finding(), finding("It does not", "fails", ratio=math.inf)],
        "figures": [figure("ratio"), figure("other")],
        "runs": RUNS,
        "cost": {"gradients": 781, "seconds": 80.0},
        "versions": {"edgescope": "0.1.0", "commit": "abc123"},
        "command": "edgescope run edge --seed 0",
    }
    path = write_report(folder, **values | changes)
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page, str]:
    folder = tmp_path_factory.mktemp("report")
    return folder, *write(folder)


def test_the_page_needs_nothing_else(report: tuple[Path, Page, str]) -> None:
    _, page, text = report
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "img", "video", "audio", "base", "form"}
    assert not page.attributes("src")
    for reference in [*page.attributes("href"), *page.attributes("xlink:href")]:
        assert reference.startswith(("#", "figures/"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "@import" not in text
    assert "url(http" not in text.replace('"', "").replace("'", "")


def test_identifiers_of_several_pictures_do_not_meet(report: tuple[Path, Page, str]) -> None:
    _, page, text = report
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    used = {piece.split(")")[0].strip("'\"") for piece in text.split("url(#")[1:]}
    assert used
    assert used <= set(ids)


def test_a_reader_without_eyes_finds_the_way(report: tuple[Path, Page, str]) -> None:
    _, page, _ = report
    attributes = dict(page.tags)
    assert attributes["html"]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    pictures = [a for tag, a in page.tags if tag == "svg"]
    assert [(p["role"], p["aria-label"]) for p in pictures] == [("img", "Ratio")] * 2
    assert all(a.get("scope") in ("row", "col") for tag, a in page.tags if tag == "th")


def test_verdicts_come_first_in_words_symbols_and_figures(report: tuple[Path, Page, str]) -> None:
    _, page, text = report
    order = ["Verdicts", "Figures", "Configuration", "Cost", "Reproduce"]
    assert [t for t in page.text if t in order] == order
    for wanted in (
        "It settles",
        "Cohen et al. (2021)",
        "a ratio of 1",
        "1.012",
        "∞",
        "Because.",
        "holds",
        "fails",
        "✓",
        "✗",
    ):
        assert any(wanted in piece for piece in page.text)
    assert text.index("Verdicts") < text.index("<svg")


def test_runs_say_once_what_they_share_and_leave_out_what_nobody_has(report: tuple[Path, Page, str]) -> None:
    _, page, _ = report
    assert page.text.count("digits") == 1
    assert "The same in all 2 runs:" in page.text
    headings = page.text[page.text.index("Configuration") :]
    for wanted in ("learning rate η", "status", "note", "odd", "diverged", "0.0001", "gradients", "380", "abc123"):
        assert wanted in headings
    assert "curvature products" not in headings
    assert "21.5\u202fs" in headings
    assert "edgescope run edge --seed 0" in headings


def test_what_lies_beside_the_page(report: tuple[Path, Page, str]) -> None:
    folder, page, _ = report
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    pictures = sorted(f"figures/{name}.{kind}" for name in ("other", "ratio") for kind in ("pdf", "png", "svg"))
    assert names == [*pictures, "findings.json", "report.html"]
    assert sorted(h for h in page.attributes("href") if h.startswith("figures/")) == pictures
    assert [f.verdict for f in read_findings(folder / "findings.json")] == ["holds", "fails"]
    entries = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert all(set(e) == {"claim", "source", "expected", "measured", "verdict", "why"} for e in entries)


def test_hostile_text_is_text(tmp_path: Path) -> None:
    bad = Finding(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: 1.0}, "holds", HOSTILE, HOSTILE)
    page, text = write(
        tmp_path,
        title=HOSTILE,
        abstract=HOSTILE,
        paper=HOSTILE,
        findings=[bad],
        figures=[figure("ratio", HOSTILE, HOSTILE)],
        runs=[{"run": HOSTILE, HOSTILE: HOSTILE}],
        cost={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        command=HOSTILE,
    )
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert "<script" not in text
    assert not page.attributes("src")
    assert [a["aria-label"] for tag, a in page.tags if tag == "svg"] == [HOSTILE]
    assert sum("{{ 7 * 7 }}" in piece for piece in page.text) >= 10


def test_a_report_without_figures_runs_or_cost_is_short_but_whole(tmp_path: Path) -> None:
    page, _ = write(tmp_path, figures=[], runs=[], cost={}, versions={}, abstract="", paper="")
    assert [t for t in page.text if t in ("Verdicts", "Figures", "Configuration", "Cost", "Reproduce")] == [
        "Verdicts",
        "Reproduce",
    ]


def test_a_report_written_again_replaces_itself(tmp_path: Path) -> None:
    write(tmp_path, figures=[])
    page, _ = write(tmp_path, figures=[], title="Another title")
    assert "Another title" in page.text
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"findings": []}, "without findings"),
        ({"title": " "}, "without a title"),
        ({"figures": [figure("same"), figure("same")]}, "'same'"),
    ],
)
def test_what_is_no_report_is_refused_before_anything_is_written(tmp_path: Path, changes: dict, names: str) -> None:
    with pytest.raises(InputError, match=names) as caught:
        write(tmp_path / "new", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        write(tmp_path / "file", figures=[])
