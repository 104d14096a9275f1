"""The report: one file that needs nothing else and says what it was given."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from edgescope import __version__
from edgescope.claims import Finding, JudgedCase, Region, Row
from edgescope.errors import InputError, RecordError
from edgescope.figures import Figure, ratio_curves
from edgescope.report import read_findings, write_report

HOSTILE = """<script>alert("x")</script> & </style> {{ 7 * 7 }} 'quoted' <img src=http://example.org/a.png>"""
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Tags with attributes, text by tag, and whether every tag was closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.scripts: list[tuple[str, str]] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((str(dict(attrs).get("type") or ""), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            kind, before = self.scripts[-1]
            self.scripts[-1] = (kind, before + data)
        elif "style" not in self.open and data.strip():
            if self.open[-1] == "h2":
                self.headings.append(data.strip())
            self.text.append(re.sub(r"[ \n]+", " ", data).strip())

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def figure(name: str, title: str = "Ratio", caption: str = "A caption.") -> Figure:
    table = pl.DataFrame({"run": ["a", "a", "b", "b"], "step": [0, 1, 0, 1], "ratio": [0.2, 0.9, 0.1, 1.0]})
    return Figure(name, title, caption, ratio_curves(table))


def finding(claim: str = "It settles", verdict: Any = "holds", **measured: float) -> Finding:
    kept = measured or {"ratio": 1.0123}
    cases = tuple(JudgedCase(name, value, value, value, "holds") for name, value in kept.items())
    return Finding(
        "edge.some",
        claim,
        "Cohen et al. (2021)",
        "a ratio of 1",
        verdict,
        "Because.",
        region=Region(0.9, 1.1),
        cases=cases,
    )


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
        "versions": {"edgescope": __version__, "commit": "abc123"},
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
    assert not names & {"link", "iframe", "object", "embed", "img", "video", "audio", "base", "form"}
    assert not page.attributes("src")
    for reference in [*page.attributes("href"), *page.attributes("xlink:href")]:
        assert reference.startswith(("#", "figures/"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "@import" not in text
    assert "url(http" not in text.replace('"', "").replace("'", "")


def test_the_policy_of_the_page_allows_its_own_scripts_and_nothing_from_elsewhere(
    report: tuple[Path, Page, str],
) -> None:
    _, page, _ = report
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert not {"connect-src", "font-src", "frame-src"} & rules.keys()
    assert rules["img-src"] == "data:"
    # The hash of a script is that of its text exactly as it stands in the page.
    run = [text for kind, text in page.scripts if not kind]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run}
    assert len(run) == 2
    assert rules["script-src"] == " ".join(f"'sha256-{_hash_of(text)}'" for text in run)
    assert "unsafe-eval" not in (policy or "")
    assert len(hashes) == 2


def _hash_of(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_every_picture_has_a_live_one_and_the_page_stays_small(report: tuple[Path, Page, str]) -> None:
    _, page, text = report
    pictures = page.attributes("data-picture")
    live = {a["id"]: a.get("type") for tag, a in page.tags if tag == "script" and "id" in a}
    assert live == {f"live-{name}": "application/json" for name in pictures}
    assert pictures == ["forest-claim-edge-some", "forest-claim-edge-some-2", "ratio", "other"]
    for kind, source in page.scripts:
        if kind == "application/json":
            assert json.loads(source)["$schema"].startswith("https://vega.github.io/schema/vega/")
    assert len(text.encode()) < 1.3e6


def test_a_page_without_pictures_has_no_vega(tmp_path: Path) -> None:
    plain = Finding("edge.some", "It settles", "s", "e", "holds", "Because.")
    page, text = write(tmp_path, findings=[plain], figures=[])
    assert "vegaEmbed=" not in text
    assert len(page.scripts) == 1
    assert len(text) < 60_000


def test_identifiers_of_several_pictures_do_not_meet(report: tuple[Path, Page, str]) -> None:
    _, page, text = report
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    still = text.split("<script")[0]
    used = {piece.split(")")[0].strip("'\"") for piece in still.split("url(#")[1:]}
    assert used
    assert used <= set(ids)
    assert {reference[1:] for reference in page.attributes("href") if reference.startswith("#")} <= set(ids)
    assert set(page.attributes("for") + page.attributes("aria-labelledby")) <= set(ids)


def test_a_reader_without_eyes_finds_the_way(report: tuple[Path, Page, str]) -> None:
    _, page, _ = report
    attributes = dict(page.tags)
    assert attributes["html"]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    pictures = [a for tag, a in page.tags if tag == "svg"]
    named = [p["aria-label"] for p in pictures if p.get("role") == "img"]
    assert named == ["Cases of the claim: It settles", "Cases of the claim: It does not", "Ratio", "Ratio"]
    assert all(p.get("aria-hidden") for p in pictures if p.get("role") != "img")
    assert all(a.get("scope") in ("row", "col") for tag, a in page.tags if tag == "th")


def test_verdicts_come_first_in_words_symbols_and_figures(report: tuple[Path, Page, str]) -> None:
    _, page, text = report
    order = ["Verdicts", "Figures", "Configuration", "Cost", "Reproduce"]
    assert page.headings == ["Verdicts", "Claims", *order[1:]]
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
    assert text.index('<h2 id="verdicts">') < text.index("<svg")


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
    assert all({"claim", "source", "expected", "measured", "verdict", "why"} < set(e) for e in entries)


def test_hostile_text_is_text(tmp_path: Path) -> None:
    rows = (Row(HOSTILE, 1.0, unit=HOSTILE),)
    cases = (
        JudgedCase(HOSTILE, 1.0, 0.9, 1.1, "holds", HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, rows),
        JudgedCase("other", math.nan, math.nan, math.nan, "open", HOSTILE, HOSTILE, {HOSTILE: "x"}, rows),
    )
    texts = dict.fromkeys(("id", "claim", "source", "expected", "why", "status", "quantity", "unit"), HOSTILE)
    more = dict.fromkeys(("origin", "how", "needs"), HOSTILE)
    bad = Finding(verdict="open", region=Region(0, 1), figure="ratio", cases=cases, **texts, **more)
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
        notes=[{"about": HOSTILE, "text": HOSTILE}],
        topics={HOSTILE: [HOSTILE]},
    )
    assert "img" not in {tag for tag, _ in page.tags}
    # Two figures as JSON, Vega and our own script; whatever is in them, nothing ended them early.
    assert [kind for kind, _ in page.scripts] == ["application/json", "application/json", "", ""]
    assert text.count("</script") == 4
    assert "<!--" not in text
    assert HOSTILE in json.dumps(json.loads(page.scripts[0][1]), ensure_ascii=False).replace('\\\\\\"', '"')
    assert not page.attributes("src")
    assert [a["aria-label"] for tag, a in page.tags if tag == "svg" and "aria-label" in a][1:] == [HOSTILE]
    assert sum("{{ 7 * 7 }}" in piece for piece in page.text) >= 20


def test_a_report_without_figures_runs_or_cost_is_short_but_whole(tmp_path: Path) -> None:
    page, _ = write(tmp_path, figures=[], runs=[], cost={}, versions={}, abstract="", paper="")
    assert page.headings == ["Verdicts", "Claims", "Reproduce"]


def test_runs_without_a_study_have_no_claims(tmp_path: Path) -> None:
    page, _ = write(tmp_path, findings=None)
    assert page.headings == ["Figures", "Configuration", "Cost", "Reproduce"]
    assert not (tmp_path / "findings.json").exists()


def test_claims_stand_under_their_topics_and_those_of_none_come_last(tmp_path: Path) -> None:
    claims = [Finding(f"edge.{name}", f"Claim {name}", "s", "e", "holds", "y") for name in ("a", "b", "c", "d")]
    topics = {"Late": ["edge.d", "edge.b"], "Empty": ["edge.x"]}
    page, _ = write(tmp_path, findings=claims, figures=[], topics=topics)
    cards = [a["id"] for tag, a in page.tags if tag == "article"]
    assert cards == ["claim-edge.d", "claim-edge.b", "claim-edge.a", "claim-edge.c"]
    entries = [a["data-for"] for tag, a in page.tags if "data-for" in a]
    assert entries == cards
    assert "Other claims" in page.text
    assert "Empty" not in page.text


def test_a_figure_that_shows_one_claim_stands_with_it_and_others_are_linked_to(tmp_path: Path) -> None:
    claims = [
        Finding(f"edge.{name}", f"Claim {name}", "s", "e", "holds", "y", figure=shown)
        for name, shown in (("a", "ratio"), ("b", "other"), ("c", "other"), ("d", "missing"))
    ]
    _, text = write(tmp_path, findings=claims)
    parts = {part.split('"')[0]: part for part in text.split('<article class="card" id="')[1:]}
    first, second, third, fourth = (parts[f"claim-edge.{name}"].split("</article>")[0] for name in "abcd")
    assert '<figure id="figure-ratio">' in first
    assert 'href="#figure-other"' in second
    assert 'href="#figure-other"' in third
    assert "<figure" not in second + third + fourth
    assert text.count('id="figure-ratio"') == text.count('id="figure-other"') == 1


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
    with pytest.raises(RecordError, match="cannot read or write"):
        write(tmp_path / "file", figures=[])
