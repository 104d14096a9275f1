"""The page as a reader meets it: in a Chromium where this machine has one.

Where it has none, each test looks at the same page for what the browser would have acted on, so that none is left out:
the specification that binds axes and legends, the attributes that the filter reads, the rules of the style sheet.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium, chromium
from invented import METHODS, make_finding, write_invented

KINDS = ("holds", "mixed", "open", "wild", "average")


@dataclass(frozen=True)
class Opened:
    """A report and the browser that shows it, None without one."""

    path: Path
    text: str
    browser: Chromium | None

    def live(self, name: str) -> dict[str, Any]:
        """The specification of a live figure, as it stands in the page."""
        found = re.search(rf'<script type="application/json" id="live-{name}">(.*?)</script>', self.text)
        assert found
        return dict(json.loads(found[1]))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("browser")
    findings = [make_finding(number, kind) for number, kind in enumerate(KINDS)]
    path = write_invented(folder, findings, topics={"First": [f.id for f in findings[:2]]})
    with chromium(folder / "profile") as browser:
        yield Opened(path, path.read_text(encoding="utf-8"), browser)


def each(selector: str, expression: str) -> str:
    """JavaScript for the values of ``expression`` in ``e``, for every element ``e`` of a selector."""
    return f"Array.from(document.querySelectorAll({json.dumps(selector)})).map(e => {expression})"


def place(browser: Chromium, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of the first element of a selector."""
    sides = "(r => [r.left, r.top, r.width, r.height])(e.getBoundingClientRect())"
    left, top, width, height = browser.run(each(selector, sides))[0]
    return left, top, width, height


def middle(browser: Chromium, selector: str) -> tuple[float, float]:
    """The middle of the first element of a selector."""
    left, top, width, height = place(browser, selector)
    return left + width / 2, top + height / 2


def show(browser: Chromium, name: str) -> str:
    """Scroll to a picture and wait until it is alive; its selector."""
    picture = f'[data-picture="{name}"]'
    browser.run(f"document.querySelector('{picture}').scrollIntoView({{block: 'center'}})")
    browser.wait(f"document.querySelector('{picture}').classList.contains('alive')")
    return picture


def labels(browser: Chromium, picture: str) -> list[str]:
    return list(browser.run(each(f"{picture} .live .role-axis-label text", "e.textContent")))


def settled(browser: Chromium) -> None:
    """Two frames later."""
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)")
    time.sleep(0.1)


def test_figures_come_alive_without_a_request_or_a_word_of_complaint(opened: Opened) -> None:
    assert "default-src 'none'" in opened.text
    if opened.browser is None:
        assert not re.findall(r'\b(?:src|srcset|data)="', opened.text.split("<script")[0])
        return
    opened.browser.open(opened.path)
    names = opened.browser.run(each(".picture", "e.dataset.picture"))
    assert len(names) == len(KINDS) + 4
    assert opened.browser.run("document.querySelectorAll('.alive').length") < len(names)  # only what is near is built
    for name in names:
        show(opened.browser, name)
    assert opened.browser.requests == [opened.path.as_uri()]
    assert opened.browser.console == []


def test_the_page_may_ask_for_nothing_and_run_nothing_else(opened: Opened) -> None:
    if opened.browser is None:
        assert "connect-src" not in opened.text
        return
    browser = opened.browser
    browser.open(opened.path)
    assert browser.run("fetch('http://127.0.0.1:9/').then(() => 'loaded', () => 'refused')") == "refused"
    insert = "(s => { s.textContent = 'window.ran = 1'; document.body.append(s); })"
    browser.run(f"{insert}(document.createElement('script'))")
    assert browser.run("window.ran === undefined")


def test_wheel_drag_and_double_click_move_the_axes(opened: Opened) -> None:
    if opened.browser is None:
        (x,) = [scale for scale in opened.live("ratio")["scales"] if scale["name"] == "x"]
        assert x["domainRaw"]["signal"].startswith("zoom_0")
        return
    browser = opened.browser
    browser.open(opened.path)
    picture = show(browser, "ratio")
    before = labels(browser, picture)
    point = f"{picture} .live .hit_0_marks path:nth-child(600)"  # a step near the middle
    x, y = middle(browser, point)
    browser.mouse("Moved", x, y)
    browser.mouse("Wheel", x, y, deltaX=0, deltaY=-400, modifiers=2)
    browser.wait(f"document.querySelectorAll('{picture} .live .role-axis-label text').length !== {len(before)}")
    settled(browser)
    near = [float(text.replace(",", "")) for text in labels(browser, picture)]
    assert max(near) < max(float(text) for text in before)
    # What is under the pointer stays there: the scale of the picture on the page was taken into account.
    assert middle(browser, point) == pytest.approx((x, y), abs=2)
    browser.click(x, y, 2)
    settled(browser)
    assert sorted(labels(browser, picture)) == sorted(before)
    browser.mouse("Pressed", x, y, button="left", buttons=1, clickCount=1)
    for step in (30, 60, 90, 120):
        browser.mouse("Moved", x + step, y + step / 4, button="left", buttons=1)
    browser.mouse("Released", x + 120, y + 30, button="left", clickCount=1)
    settled(browser)
    assert middle(browser, point) == pytest.approx((x + 120, y + 30), abs=2)
    browser.click(x, y, 2)
    settled(browser)
    assert sorted(labels(browser, picture)) == sorted(before)


def test_a_wheel_without_a_key_scrolls_the_page(opened: Opened) -> None:
    if opened.browser is None:
        assert "event.ctrlKey" in json.dumps(opened.live("ratio"))
        return
    browser = opened.browser
    browser.open(opened.path)
    picture = show(browser, "ratio")
    left, top, width, height = place(browser, f"{picture} .live svg")
    before, place_before = labels(browser, picture), browser.run("scrollY")
    browser.mouse("Wheel", left + width / 3, top + height / 2, deltaX=0, deltaY=60)
    browser.wait(f"scrollY !== {place_before}")
    assert labels(browser, picture) == before


def test_the_pointer_is_told_the_values_of_a_case_and_of_a_point(opened: Opened) -> None:
    if opened.browser is None:
        assert "95% interval" in json.dumps(opened.live("forest-claim-edge-mixed-1"))
        return
    browser = opened.browser
    browser.open(opened.path)
    picture = show(browser, "forest-claim-edge-mixed-1")
    left, top, _, height = place(browser, f"{picture} .live path[aria-roledescription=row]")
    browser.mouse("Moved", left + 4, top + height / 2)  # at the border of the row, away from its dot
    browser.wait("document.querySelector('.tooltip').classList.contains('told')")
    told = browser.run(each(".tooltip dt, .tooltip dd", "e.textContent"))
    facts = dict(zip(told[::2], told[1::2], strict=True))
    assert facts["case"] == "gradient descent, fully connected, tanh, squared error"
    assert facts["verdict"] == "holds"
    low, high = map(float, facts["95% interval"].split(" to "))
    assert low < float(facts["value"]) < high
    picture = show(browser, "ratio")
    point = f"{picture} .live .hit_0_marks path:nth-child(150)"
    browser.mouse("Moved", *middle(browser, point))
    browser.wait("document.querySelector('.tooltip').textContent.includes('sharpness / threshold')")
    settled(browser)
    told = browser.run(each(".tooltip dt, .tooltip dd", "e.textContent"))
    facts = dict(zip(told[::2], told[1::2], strict=True))
    (datum,) = browser.run(each(point, "(d => [d.run, d.step, d.mean])(e.__data__.datum)"))
    assert facts["run"] in METHODS
    assert abs(float(facts["step"]) - datum[1]) <= 2  # points of several runs may cover each other
    assert float(facts["sharpness / threshold"]) == pytest.approx(datum[2], abs=0.03)


def test_a_click_on_a_name_hides_its_series_and_another_shows_it(opened: Opened) -> None:
    if opened.browser is None:
        assert "off_0" in json.dumps(opened.live("ratio"))
        return
    browser = opened.browser
    browser.open(opened.path)
    picture = show(browser, "ratio")
    hidden = each(f"{picture} .live .mark-line path", "e.getAttribute('opacity') === '0'")
    spot = "(r => [r.left + 4, r.top + r.height / 2])(e.getBoundingClientRect())"
    names = browser.run(each(f"{picture} .live .role-legend-label text", spot))
    assert browser.run(hidden) == [False] * len(names) == [False] * 5
    for name, expected in ((1, {1}), (3, {1, 3}), (1, {3})):
        browser.click(*names[name])
        wanted = json.dumps([k in expected for k in range(5)], separators=(",", ":"))
        browser.wait(f"JSON.stringify({hidden}) === '{wanted}'")


def test_the_filter_leaves_claims_of_a_verdict_and_with_words(opened: Opened) -> None:
    cards = re.findall(r'<article class="card" id="([^"]*)" data-verdict="(\w+)"', opened.text)
    assert len(cards) == len(KINDS)
    if opened.browser is None:
        buttons = re.findall(r'<button type="button" data-verdict="(\w+)"', opened.text)
        assert {verdict for _, verdict in cards} == set(buttons)
        return
    browser = opened.browser
    browser.open(opened.path)
    shown = each(".card", "e.checkVisibility() ? e.id : ''") + ".filter(Boolean)"
    listed = each(".contents [data-for]", "e.checkVisibility() ? e.dataset.for : ''") + ".filter(Boolean)"
    browser.run("document.querySelector('[data-filter] [data-verdict=mixed]').click()")
    mixed = [card for card, verdict in cards if verdict == "mixed"]
    assert 0 < len(mixed) < len(cards)
    assert browser.run(shown) == browser.run(listed) == mixed
    assert browser.run("document.querySelector('.filter-count').textContent") == f"{len(mixed)} of {len(cards)} claims"
    browser.run("document.querySelector('[data-filter] [data-verdict=mixed]').click()")
    assert browser.run(shown) == [card for card, _ in cards]
    box = "document.querySelector('[data-filter] input')"
    type_in = "(i => {{ i.value = {}; i.dispatchEvent(new Event('input')); }})(" + box + ")"
    browser.run(type_in.format(json.dumps("PRECONDITIONED settles")))
    assert browser.run(shown) == ["claim-edge.open-2"]
    browser.run(type_in.format(json.dumps("no such word")))
    assert browser.run(shown) == []
    assert browser.run("document.querySelector('[data-nothing]').checkVisibility()")
    browser.run(f"location.hash = '#{cards[0][0]}'")  # a link to what is hidden takes the filter away
    browser.wait(f"{shown}.length === {len(cards)}")


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_no_page_is_wider_than_its_window(opened: Opened, width: int) -> None:
    if opened.browser is None:
        assert 'name="viewport"' in opened.text
        return
    browser = opened.browser
    browser.open(opened.path, width=width, height=800)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for name in ("forest-claim-edge-wild-3", "ratio"):
        show(browser, name)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.querySelector('.contents-body').checkVisibility()") == (width > 1000)


def test_dark_and_light_follow_the_system_and_the_switch(opened: Opened) -> None:
    if opened.browser is None:
        assert "prefers-color-scheme: dark" in opened.text
        return
    browser = opened.browser
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(opened.path, dark=True)
    dark = browser.run(paper)
    browser.run("document.querySelector('[data-theme-switch]').click()")
    light = browser.run(paper)
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 200 < 600 < sum(map(int, re.findall(r"\d+", light)[:3]))
    browser.run("document.querySelector('[data-theme-switch]').click()")
    assert browser.run(paper) == dark
    assert browser.run("document.querySelector('[data-theme-switch]').textContent") == "Light"
    browser.run("localStorage.clear()")
    browser.open(opened.path)
    assert browser.run(paper) == light
    assert browser.console == []


def test_paper_has_the_still_pictures_in_dark_ink(opened: Opened) -> None:
    if opened.browser is None:
        assert re.search(r"@media print \{.*\.picture \.live \{ display: none", opened.text, re.S)
        return
    browser = opened.browser
    browser.open(opened.path, dark=True)
    show(browser, "ratio")
    visible = "['.alive .still', '.alive .live', '.contents'].map(s => document.querySelector(s).checkVisibility())"
    assert browser.run(visible) == [False, True, True]
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run(visible) == [True, False, False]
    assert browser.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert browser.run("getComputedStyle(document.querySelector('.still svg')).filter") == "none"
    browser.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_the_page_says_the_same(opened: Opened) -> None:
    if opened.browser is None:
        assert len(re.findall(r'<div class="still"><svg ', opened.text)) == len(KINDS) + 4
        return
    browser = opened.browser
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(opened.path)
        # The protocol still evaluates; the scripts of the page did not run.
        assert browser.run("window.vegaEmbed === undefined")
        assert browser.run("document.querySelectorAll('.still svg').length") == len(KINDS) + 4
        assert browser.run("Array.from(document.querySelectorAll('.still')).every(s => s.checkVisibility())")
        assert not browser.run("document.querySelector('[data-filter]').checkVisibility()")
        assert browser.run("document.querySelectorAll('.contents [data-for]').length") == len(KINDS)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
