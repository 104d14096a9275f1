"""The documentation site, without the tools that build it: every page has a place, and every name its entry."""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from test_docs import LINK, anchors
from test_public_names import HOMES

from edgescope.studies import STUDIES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "tools"))
import check_site  # noqa: E402
import evidence  # noqa: E402
import study_pages  # noqa: E402

CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
NAV = re.findall(r"(\S+\.md)$", CONFIG.partition("\nnav:\n")[2], re.MULTILINE)
REFERENCE = sorted((DOCS / "reference").glob("*.md"))
MODULES = [name for page in REFERENCE for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M)]
FROM_ROOT = {"index.md": "README.md"}
"""Pages of the site whose file in the root has another name."""


def test_every_page_has_one_place_in_the_navigation() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    of_the_root = [name for name in NAV if name not in pages]
    assert len(set(NAV)) == len(NAV)
    assert pages <= set(NAV)
    assert all((ROOT / FROM_ROOT.get(name, name)).exists() for name in of_the_root)


def test_every_public_name_has_an_entry_in_the_reference() -> None:
    assert len(set(MODULES)) == len(MODULES)
    for module in MODULES:
        assert importlib.import_module(module).__doc__, module
    known = {module.removeprefix("edgescope") for module in MODULES}
    assert {home for home in HOMES.values() if home != "."} <= known
    assert {f".{name}" for name, home in HOMES.items() if home == "."} - {".errors"} <= known | {".studies"}


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.stem)
def test_links_of_the_reference_lead_to_files_and_headings(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        to = page.parent / target if target else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), f"{target}#{anchor}"


def test_the_page_of_the_evidence_is_what_its_data_and_the_claims_make() -> None:
    results = json.loads(evidence.DATA.read_text(encoding="utf-8"))
    made = evidence.page(results, [STUDIES.build(name) for name in STUDIES.names()])
    assert evidence.PAGE.read_text(encoding="utf-8") == made, "tools/evidence.py writes the page anew"


@pytest.mark.parametrize("name", STUDIES.names())
def test_the_page_of_a_study_shows_what_its_most_complete_run_found(name: str) -> None:
    results = json.loads(evidence.DATA.read_text(encoding="utf-8"))
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert f"<!-- end of the evidence of {name} -->" in text
    assert evidence.study_page(text, results, STUDIES.build(name)) == text, "tools/evidence.py writes the pages anew"
    pictures = re.findall(rf"images/studies/({name}-\S+\.svg)\)", text)
    assert pictures, "a page without a picture of what was found"
    assert all((study_pages.PICTURES / picture).read_text(encoding="utf-8").startswith("<svg") for picture in pictures)


def test_the_tables_of_the_report_are_what_its_data_and_the_claims_make() -> None:
    results = json.loads(evidence.DATA.read_text(encoding="utf-8"))
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    studies = [STUDIES.build(name) for name in STUDIES.names()]
    assert all(f"<!-- end of the main claims of {study.name} -->" in text for study in studies)
    assert evidence.report_page(text, results, studies) == text, "tools/evidence.py writes the tables anew"


def test_every_picture_of_a_study_is_on_its_page() -> None:
    shown = {f"{name}-{picture}.svg" for name, pictures in study_pages.SHOWN.items() for picture in pictures}
    assert {path.name for path in study_pages.PICTURES.glob("*")} == shown


def test_a_later_result_replaces_the_one_of_the_same_run_and_a_fuller_preset_is_shown() -> None:
    study = STUDIES.build("grokking")
    name = study.topics[0].claims[0].claim.id
    entry = {"verdict": "holds", "claim": "", "expected": "", "cases": [1, 0, 0], "measured": [0.5, 0.4, 0.6]}
    made = {"study": "grokking", "seed": 0, "date": "2026-01-01", "command": "c", "versions": {}, "claims": {}}
    quick = made | {"preset": "quick", "claims": {name: entry}}
    full = made | {"preset": "full", "claims": {name: entry | {"verdict": "fails"}}}
    results = evidence.add(evidence.add(evidence.add([], full), quick), quick)
    assert [one["preset"] for one in results] == ["quick", "full"]
    text = evidence.page(results, [study])
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name.partition('.')[2]}`"))
    assert "| fails | 1 hold | 0.5 (0.4 to 0.6) |" in row
    assert row.endswith("| full, for another wording or region |")
    assert text.count("not run") > len(study.topics)


def test_the_lock_has_every_tool_that_the_extra_names() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    lock = (DOCS / "requirements.lock").read_text(encoding="utf-8")
    for need in extra["docs"]:
        name = re.split(r"[\[<>=]", need)[0]
        assert re.search(rf"^{name}==", lock, re.MULTILINE), name


def test_what_a_page_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="https://a.b">to follow</a><link rel="canonical" href="https://a.b"><script src="own.js"></script>'
    )
    assert check_site.loads(page) == []
    page.write_text(
        '<script src="https://a.b/x.js"></script><link rel="stylesheet" href="//a.b/y.css">'
        "<style>@import 'https://a.b/z.css'; p { background: url(https://a.b/i.png) }</style>"
    )
    assert check_site.loads(page) == [
        "https://a.b/x.js", "//a.b/y.css", "https://a.b/z.css", "https://a.b/i.png",
    ]  # fmt: skip


def test_a_picture_is_made_smaller_without_what_is_seen() -> None:
    svg = '<svg role="img" aria-label="a, b"><path d="M0.12345,7.5L10,0.001" opacity="0.125" pointer-events="none"/>'
    text = '<text transform="translate(1.2345,0)">rate 0.0003</text></svg>'
    short = (
        '<svg><path d="M0.12,7.5L10,0.00" opacity="0.125"/><text transform="translate(1.23,0)">rate 0.0003</text></svg>'
    )
    assert study_pages.small(svg + text) == short


def test_a_page_without_marks_is_left_as_it_is() -> None:
    assert study_pages.marked("text", "a", "b", "new") == "text"
    made = study_pages.marked("<!-- a -->old<!-- b -->rest", "a", "b", "new")
    assert made == "<!-- a -->\n\nnew\n\n<!-- b -->rest" == study_pages.marked(made, "a", "b", "new")
