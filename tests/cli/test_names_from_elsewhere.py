"""Names of files, and what strangers wrote into them, reach neither the terminal nor a page as more than text."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.text import Text
from said import Run, Said

from edgescope.cli.terminal import Terminal
from edgescope.measures import Reading
from edgescope.report.scripts import page_script, vega_bundle
from edgescope.store import Record, save_checkpoint
from edgescope.studies import STUDIES

EVIL = "r\x1b]0;owned\x07\x1b[2J\u202e\u2066x\r\n\x85\x9b31m\x7f<img src=x onerror=alert(1)>'\"&:bomb:[red]"
SMALL = ("--data", "digits", "--model", "mlp:widths=4", "--train", 20, "--test", 10, "--threads", 1, "--path", "kept")

OBJECTIVE = """
import torch
from edgescope import Objective, supervised

def objective():
    torch.manual_seed(0)
    x, y = torch.randn(8, 2), torch.randint(0, 2, (8,))
    return Objective(torch.nn.Linear(2, 2), supervised(torch.nn.functional.cross_entropy), (x, y))
"""


def harmless(said: Said) -> Said:
    """Nothing but lines of characters that can be seen: the name was shown, and not carried out."""
    for stream in (said.out, said.err):
        for character in stream:
            shown = character.isprintable() or unicodedata.category(character) == "Zs"
            assert shown or character == "\n", (character, stream)
    return said


class Page(HTMLParser):
    """The elements of a page, and the attributes that could do something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.doing: list[tuple[str, str | None]] = []
        self.kinds: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        if tag == "script":
            self.kinds.append(dict(attributes).get("type"))
        for name, value in attributes:
            if name.startswith("on") or (name in ("href", "src") and not re.match(r"figures/|#", value or "")):
                self.doing.append((name, value))


def harmless_page(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    for script in (vega_bundle(), page_script()):  # what runs is the same in every page, whatever the names
        text = text.replace(f"<script>{script}</script>", "")
    page = Page(text)
    assert set(page.kinds) <= {"application/json"}
    assert "svg" in page.elements or "table" in page.elements  # there is a page at all
    assert not page.elements & {"img", "iframe", "object", "embed", "link", "foreignobject", "x"}
    assert not page.doing
    assert all(c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs" for c in text)
    return text


@pytest.mark.parametrize(
    "arguments",
    [
        (EVIL,),
        ("run", EVIL),
        ("run", "edge", "--preset", EVIL),
        ("run", "edge", f"--{EVIL}"),
        ("list", EVIL),
        ("train", "--data", EVIL),
        ("train", "--data", f"text:{EVIL}"),
        ("train", "--data", f"mnist:{EVIL}"),
        ("train", "--data", f"digits:train={EVIL}"),
        ("train", "--model", EVIL),
        ("train", "--setup", EVIL),
        ("train", "--module", EVIL),
        ("train", "--lr", EVIL),
        ("train", "--measures", EVIL),
        ("sweep", EVIL),
        ("sweep", f"json:{EVIL}"),
        ("sweep", "--data", "digits", "--lr", EVIL),
        ("report", EVIL),
        ("export", EVIL, "--to", "csv"),
        ("export", ".", "--to", EVIL),
        ("inspect", EVIL, "--objective", EVIL),
        ("inspect", "evil.pt", "--objective", f"json:{EVIL}"),
    ],
)
def test_a_refusal_is_one_line_of_text(run: Run, here: Path, arguments: tuple[str, ...]) -> None:
    torch.save({EVIL: 1}, "evil.pt")
    harmless(run(*arguments)).refusal()


def evil_file(name: str) -> Path:
    return Path(name.replace("/", "_"))


@pytest.mark.slow
def test_a_run_in_a_folder_of_such_a_name(run: Run, here: Path) -> None:
    folder = evil_file(EVIL)
    out = ("--out", folder)
    names = ("loss", "sharpness", "threshold", "ratio", "norms", "spectrum")
    trained = harmless(run("train", *SMALL, "--steps", 6, "--every", 2, "--measures", *names, *out))
    assert trained.code == 0
    assert trained.out.splitlines()[-1].startswith("record: r\\x1b]0;owned\\x07")
    harmless(run("train", *SMALL, "--steps", 6, *out)).refusal()
    assert harmless(run("report", folder)).out.count("\n") == 1
    assert "r\\x1b]0;owned\\x07\\x1b[2J\\u202e" in harmless_page(folder / "report.html")
    for kind in ("csv", "parquet"):
        assert harmless(run("export", folder, "--to", kind)).out.count("\n") == 1
    # Such runs beside each other are drawn by their names.
    harmless(run("train", *SMALL, "--steps", 6, "--every", 2, "--measures", *names, "--out", f"runs/{folder}"))
    harmless(run("train", *SMALL, "--steps", 6, "--every", 2, "--measures", *names, "--out", "runs/b"))
    assert harmless(run("report", "runs")).code == 0
    assert "owned" in harmless_page(Path("runs/report.html"))
    for picture in Path("runs/figures").glob("*.svg"):
        assert not re.search(r"<(img|script)|[\x00-\x08\x0b-\x1f\x7f-\x9f]", picture.read_text())


def test_a_checkpoint_of_such_a_name(run: Run, here: Path) -> None:
    (here / "users_objective.py").write_text(OBJECTIVE)
    torch.save(torch.nn.Linear(2, 2).state_dict(), evil_file(EVIL))
    for flags in ((), ("--json",)):
        said = harmless(run("inspect", evil_file(EVIL), "--objective", "users_objective:objective", "--k", 1, *flags))
        assert said.code == 0, said
        assert "owned" in said.out
    torch.save({EVIL: torch.ones(2), "weight": torch.ones(2, 2)}, "other.pt")
    assert "owned" in harmless(run("inspect", "other.pt", "--objective", "users_objective:objective")).refusal()


def test_a_study_and_a_sweep_in_folders_of_such_names(run: Run, users_study: str, here: Path) -> None:
    folder = evil_file(EVIL)
    said = harmless(run("run", "small", "--module", users_study, "--jobs", 1, "--out", folder))
    assert said.code == 0, said
    assert said.out.splitlines()[-1].startswith("report: r\\x1b]0;")
    harmless(run("run", "small", "--module", users_study, "--jobs", 1, "--out", folder)).refusal()
    assert harmless(run("report", folder, "--module", users_study)).code == 0
    broken = ("run", "small:broken=true", "--module", users_study, "--jobs", 1, "--out", f"2{folder}")
    assert "To retry them:" in harmless(run(*broken)).err
    rates = ("--lr", "0.01,0.02", "--steps", 20, "--stop-loss", 0.4, "--jobs", 1)
    swept = harmless(run("sweep", *SMALL, *rates, "--out", f"3{folder}"))
    assert swept.code == 0, swept
    harmless_page(Path(f"3{folder}/report.html"))
    Path(f"3{folder}/sweep.json").write_text(json.dumps({"base": EVIL, "lr": [EVIL]}))
    assert harmless(run("report", f"3{folder}")).code == 0


def test_what_a_record_says_is_text_and_no_more(run: Run, here: Path) -> None:
    config = {"data": EVIL, "model": EVIL, "optimizer": EVIL, "loss": EVIL, "stop_loss": 0.1, "function": EVIL}
    with Record.create("runs/a", config=config, command=EVIL) as record:
        loss = {"train": 1.0, EVIL: 2.0}
        record.append(0, [Reading("loss", loss, note=EVIL), Reading("sharpness", {EVIL: 3.0}), Reading(EVIL, {})])
        record.append(1, [Reading("loss", loss), Reading("sharpness", {"1": 1.0, EVIL: 3.0})])
        record.note(1, "diverged", EVIL)
        record.note(1, EVIL, EVIL)
        for key in ("torch", "commit", "platform", EVIL):
            record.set_info(key, EVIL)
        record.set_info("plan", {"path": EVIL, EVIL: EVIL})
        record.set_info("measured", {"mode": EVIL, "parameters": EVIL})
        record.set_status("finished")
    assert harmless(run("report", "runs")).code == 0
    assert "owned" in harmless_page(Path("runs/report.html"))
    assert harmless(run("export", "runs", "--to", "csv")).code == 0


@pytest.mark.parametrize("value", [5, "x", [1], None, True, {"a": {"b": 1}}, 1e400, [[[]]], "NaN"])
@pytest.mark.parametrize("key", ["measured", "plan", "seconds", "command", "torch", "threads"])
def test_a_record_with_values_of_other_types_is_reported_or_refused(run: Run, here: Path, key: str, value: Any) -> None:
    with Record.create("runs/a", config={"data": value, "lr": value, "seed": value}) as record:
        record.append(0, [Reading("loss", {"train": 1.0})])
        record.set_info(key, value)
        record.set_status("finished")
    assert harmless(run("report", "runs/a")).code in (0, 2)


WRONG: list[Any] = [5, -1, 1.5, True, None, [], ["edge"], {}, {"edge": 1}, "", "abc", EVIL, "edge:" + EVIL, 10**400]


@pytest.mark.parametrize(
    "content",
    [
        *({"study": value} for value in WRONG),
        *({"study": "edge", "preset": value} for value in WRONG),
        *({"study": "edge", "seed": value} for value in WRONG),
        *({"study": "edge", "preset": "quick", "seed": 0, "more": value} for value in WRONG[:3]),
    ],
    ids=lambda content: ascii(content)[:40],
)
def test_study_json_with_other_types_is_one_line(run: Run, here: Path, content: dict[str, Any]) -> None:
    Path("study.json").write_text(json.dumps(content).replace("0" * 400, "0" * 5000))  # longer than Python reads
    harmless(run("report", ".")).refusal()
    harmless(run("run", "edge", "--jobs", 1, "--seed", 1, "--out", ".", "--resume")).refusal()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '"edge"', "{}", "[" * 100_000, '{"a":' * 100_000, "\xff", "\0", '{"study"}']
)
@pytest.mark.parametrize("name", ["study.json", "sweep.json"])
def test_descriptions_that_are_none_are_one_line(run: Run, here: Path, name: str, text: str) -> None:
    Path(name).write_text(text, encoding="latin-1")
    harmless(run("report", ".")).refusal()


@pytest.mark.parametrize("name", ["study.json", "sweep.json"])
def test_a_description_that_never_ends_is_not_waited_for(run: Run, here: Path, name: str) -> None:
    os.mkfifo(name)
    harmless(run("report", ".")).refusal()
    os.unlink(name)
    os.symlink("/dev/zero", name)
    harmless(run("report", ".")).refusal()
    os.unlink(name)
    Path(name).touch()
    os.truncate(name, 2**40)
    harmless(run("report", ".")).refusal()


def test_a_checkpoint_folder_of_such_a_name(run: Run, here: Path) -> None:
    folder = evil_file(EVIL)
    path = save_checkpoint(folder, 1, {EVIL: torch.ones(3)}, {"model": EVIL})
    path.write_bytes(path.read_bytes()[:-5])
    (here / "users_objective.py").write_text(OBJECTIVE)
    harmless(run("inspect", folder, "--objective", "users_objective:objective")).refusal()


def test_the_terminal_shows_its_own_colours_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    console = Terminal(force_terminal=True, width=60, color_system="standard")
    console.print(Text(EVIL, style="bold red"))
    console.print(EVIL, markup=False)
    said = capsys.readouterr().out
    assert "\x1b[1;31m" in said  # its own
    assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e\u2066]|\x1b[^\[]|\x1b\[2J", said)
    assert said.count("\\x1b]0;owned") == 2
    assert ":bomb:[red]" in said.replace("\n", "")


WORDS = st.sampled_from(
    [
        *("run", "train", "sweep", "report", "export", "inspect", "list", "edge", "nowhere", ".", "--out", "--to"),
        *("--help", "--version", "--lr", "1", "-1", "nan", "--data", "digits", "mlp:widths=1x", "--model", "--k"),
        *("--objective", "json:loads", "json", "--module", "os", "--seed", "--preset", "full", "--mode", "eval", ""),
        *("csv", "--json", "--resume"),
    ]
)
REFUSED_AT_LAST = {"run": ["--jobs", "0"], "train": ["--steps", "-1"], "sweep": ["--steps", "-1"]}


@settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(WORDS | st.text(max_size=8), max_size=6))
def test_any_words_are_carried_out_or_refused_in_one_line(run: Run, here: Path, words: list[str]) -> None:
    words = [word.replace("\0", "") for word in words]
    words += REFUSED_AT_LAST.get(words[0], []) if words else []
    said = harmless(run(*words))
    assert said.code == 0 or said.refusal()


@settings(max_examples=120, derandomize=True, deadline=None)
@given(rest=st.text(max_size=20) | st.lists(st.sampled_from("broken=,:x1e9-nfalsé\x1b\n")).map("".join))
def test_any_specification_is_built_or_refused_in_one_line(rest: str) -> None:
    from edgescope.data import DATA
    from edgescope.errors import InputError
    from edgescope.measures import MEASURES
    from edgescope.models import MODELS
    from edgescope.optim import OPTIMIZERS
    from edgescope.printable import printable

    for registry in (DATA, MODELS, OPTIMIZERS, MEASURES, STUDIES):
        for name in list(registry)[:6]:
            for spec in (f"{name}:{rest}", f"{name}{rest}", rest):
                try:
                    registry.build(spec)
                except InputError as error:
                    assert str(error) == printable(str(error))  # noqa: PT017
