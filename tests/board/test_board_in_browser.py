"""The page in a Chromium, where this machine has one, while a run is being trained: it grows, and asks nobody else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from board_runs import begin_run, readings, write_run
from chromium import Chromium, chromium, find_chromium

from edgescope.store import Record

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")

DRAWN = "document.querySelectorAll('.panel svg path[stroke]').length > 3"


@dataclass(frozen=True)
class Shown:
    """The page, its address, and the run in progress that it shows."""

    browser: Chromium
    address: str
    record: Record


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("board")
    for name in ("lr0.02", "lr0.1", "lr10", '<b id="harm">b'):
        write_run(folder / "runs" / name, range(0, 100, 10))
    record = begin_run(folder / "runs" / "living", range(5))
    with serving(folder / "runs") as address, chromium(folder / "profile") as browser:
        assert browser is not None
        browser.visit(address)
        browser.wait(DRAWN)
        yield Shown(browser, address, record)
    record.close()


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The command in a process of its own, from its address to Ctrl-C."""
    command = [sys.executable, "-m", "edgescope", "board", str(folder), "--port", "0", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    assert (server.returncode, said) == (0, "")


def names(browser: Chromium) -> list[str]:
    """The runs in the list that the filter leaves."""
    items = "[...document.querySelectorAll('.run:not([hidden])')]"
    return list(browser.run(f"{items}.map(item => item.querySelector('.name').textContent)"))


def chosen(browser: Chromium) -> list[str]:
    return list(browser.run("[...document.querySelectorAll('.card h2')].map(item => item.textContent)"))


def focused(browser: Chromium) -> str:
    return str(browser.run("document.activeElement.dataset.name || document.activeElement.id"))


def test_the_chart_of_a_run_in_progress_grows(shown: Shown) -> None:
    browser = shown.browser
    assert chosen(browser) == ["living"]
    line = "document.querySelector('[data-panel=ratio] svg .mark-line path').getAttribute('d')"
    before = browser.run(f"{line}.split('L').length")
    assert before == 5
    for step in range(5, 60):
        shown.record.append(step, readings(step))
    browser.wait(f"{line}.split('L').length === 60")
    browser.wait("document.querySelector('.card .facts').textContent.includes('step 59')")
    assert browser.run("document.title").startswith("1 running")


def test_no_request_leaves_and_nothing_is_complained_of(shown: Shown) -> None:
    browser = shown.browser
    assert browser.requests
    assert [url for url in browser.requests if not url.startswith((shown.address, "data:,"))] == []
    assert browser.console == []
    refused = "fetch('http://127.0.0.1:9/').then(() => 'loaded', () => 'refused')"
    assert browser.run(refused) == "refused"
    assert any("Content Security Policy" in line for line in browser.console)
    browser.console.clear()


def test_names_from_disk_are_text(shown: Shown) -> None:
    browser = shown.browser
    assert names(browser) == ["living", '<b id="harm">b', "lr0.02", "lr0.1", "lr10"]
    assert browser.run("document.getElementById('harm') === null")


def test_the_keyboard_is_enough(shown: Shown) -> None:
    browser = shown.browser
    browser.press("/", "/")
    assert focused(browser) == "filter"
    for letter in "lr0 gd":
        browser.press(letter, letter)
    assert names(browser) == ["lr0.02", "lr0.1"]
    browser.press("Enter", "\r")
    assert focused(browser) == "lr0.02"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    assert focused(browser) == "lr0.1"
    browser.press("Enter", "\r")
    assert chosen(browser) == ["lr0.1"]
    browser.press("ArrowUp")
    browser.press(" ", " ")
    assert chosen(browser) == ["lr0.1", "lr0.02"]
    assert (
        browser.run("[...document.querySelectorAll('[aria-selected=true]')].map(item => item.dataset.name)")
        == chosen(browser)[::-1]
    )
    browser.wait("document.querySelector('[data-panel=\"norms/l1\"] svg')")
    browser.run("document.querySelector('[data-panel=ratio] .plot').focus()")
    browser.press("ArrowLeft")
    said = browser.run("document.getElementById('said').textContent")
    assert said.startswith("step 80: lr0.1 0.5507; lr0.02 0.5507")
    assert browser.run("!document.querySelector('.tooltip').hidden")
    browser.press("/", "/")
    browser.press("Escape")
    assert len(names(browser)) == 5


def test_a_range_of_steps_is_kept_in_the_address(shown: Shown) -> None:
    browser = shown.browser
    browser.run(
        "document.getElementById('first').value = 20, document.getElementById('last').value = 60,"
        "document.getElementById('steps').requestSubmit()"
    )
    browser.wait("location.hash.includes('first=20') && location.hash.includes('last=60')")
    labels = "[...document.querySelectorAll('[data-panel=ratio] .role-axis-label text')].map(t => t.textContent)"
    browser.wait(f"{labels}.includes('60') && !{labels}.includes('80')")
    browser.visit(shown.address + browser.run("location.hash"))
    browser.wait(DRAWN)
    browser.wait(f"{labels}.includes('60') && !{labels}.includes('80')")
    assert chosen(browser) == ["lr0.1", "lr0.02"]
    browser.run("document.getElementById('every').click()")
    browser.wait(f"{labels}.includes('80')")


def test_dark_and_light(shown: Shown) -> None:
    browser = shown.browser
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.visit(shown.address, dark=True)
    browser.wait(DRAWN)
    assert browser.run(paper) == "rgb(20, 23, 26)"
    browser.run("document.getElementById('theme').click()")
    assert browser.run(paper) == "rgb(255, 255, 255)"
    browser.visit(shown.address, dark=True)
    assert browser.run(paper) == "rgb(255, 255, 255)"
    browser.run("localStorage.clear()")


@pytest.mark.parametrize("width", [320, 700, 1000, 1600])
def test_nothing_is_wider_than_the_window(shown: Shown, width: int) -> None:
    browser = shown.browser
    browser.visit(shown.address, width=width)
    browser.wait(DRAWN)
    time.sleep(0.2)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(
        "[...document.querySelectorAll('.plot svg')].every(e => e.getBoundingClientRect().width <= innerWidth)"
    )


def test_an_empty_folder_says_so_and_a_token_opens_the_page(shown: Shown, tmp_path: Path) -> None:
    browser = shown.browser
    with serving(tmp_path, "--token") as address:
        browser.visit(address.partition("?")[0])
        assert "A token is needed" in browser.run("document.body.textContent")
        browser.visit(address)
        browser.wait("document.getElementById('empty') && !document.getElementById('empty').hidden")
        assert "There are no runs below" in browser.run("document.getElementById('empty').textContent")
        assert "token" not in browser.run("location.href")
        write_run(tmp_path / "first", [0, 1])
        browser.wait(DRAWN)
        assert chosen(browser) == ["first"]
    browser.wait("document.getElementById('link').textContent.includes('no connection')")
