"""Diagnoses of runs whose critical learning rate, thresholds and regimes are known by construction."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import scipy
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.advice import Section, advise_run, advise_runs, as_data
from edgescope.advice.optimizer_thresholds import critical_rates
from edgescope.cli import main
from edgescope.errors import InputError


class Weights(nn.Module):
    def __init__(self, *start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))


def bowl(w: Tensor) -> Tensor:
    """A quadratic with the curvatures 2 and 0.2."""
    return w[0] ** 2 + 0.1 * w[1] ** 2


def descend(
    out: Path,
    lr: float,
    *,
    loss: Callable[[Tensor], Tensor] = bowl,
    steps: int = 20,
    measures: Sequence[str] = ("loss", "sharpness", "threshold", "ratio", "headroom", "norms"),
    start: Sequence[float] = (1.0, 1.0),
    **options: Any,
) -> es.Record:
    model = Weights(*start)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **options)
    objective = es.Objective(model, lambda m, _: loss(m.w), torch.zeros(1), threads=1, path="kept")
    with es.Monitor(objective, optimizer, every=1, measures=list(measures), out=out) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model.w).backward()
            optimizer.step()
            monitor.step()
    return es.Record.open(out)


def by_topic(sections: tuple[Section, ...]) -> dict[str, Section]:
    return {section.topic: section for section in sections}


def test_a_stable_run_on_a_quadratic(tmp_path: Path) -> None:
    with descend(tmp_path / "a", 0.5, measures=("loss", "sharpness", "threshold", "ratio")) as record:
        found = by_topic(advise_run(record))
    assert found["regime"].reasons[0].sentence == "Regime: flow-aligned"
    # By the ratio: 2 over the largest curvature, whatever the step.
    assert [figure.value for figure in found["critical-rate"].reasons[0].figures] == [pytest.approx(1.0)]
    assert "used 0.5, 0.5 times that" in found["critical-rate"].text
    assert [figure.value for figure in found["range"].reasons[0].figures] == [pytest.approx(1.0)] * 2
    assert "warm-up" not in found["range"].text
    assert "sgd: 1 (2/η)" in found["thresholds"].text
    assert "sgd:momentum=0.9: 1.9" in found["thresholds"].text
    assert found["trapped"].text == "No: the optimizer has no weight decay."


def test_the_critical_rate_of_the_steps_taken(tmp_path: Path) -> None:
    # Along one axis the loss is back where it was after a step of 2/curvature.
    with descend(tmp_path / "a", 0.3, start=(1.0, 0.0), steps=6) as record:
        section = by_topic(advise_run(record))["critical-rate"]
    (figure,) = section.reasons[0].figures
    assert (figure.measure, figure.part) == ("headroom", "critical_rate")
    assert figure.value == pytest.approx(1.0, rel=0.05)


def test_a_curvature_that_falls_asks_for_a_warm_up(tmp_path: Path) -> None:
    # w^4/4 + w²/20 has curvature 3 w² + 0.1: the critical rate grows as w falls.
    with descend(
        tmp_path / "a",
        0.05,
        loss=lambda w: 0.25 * w[0] ** 4 + 0.05 * w[0] ** 2,
        start=(2.0,),
        steps=40,
        measures=("loss", "ratio", "threshold"),
    ) as record:
        section = by_topic(advise_run(record))["range"]
    low, high = (figure.value for figure in section.reasons[0].figures)
    assert low == pytest.approx(2 / 12.1, rel=1e-3)
    assert high > 3 * low
    assert "a warm-up may allow a larger rate" in section.text


@pytest.mark.parametrize("measures", [("loss", "ratio"), ("loss", "ratio", "threshold")])
def test_a_rate_that_may_have_changed_gives_no_critical_rate(tmp_path: Path, measures: tuple[str, ...]) -> None:
    model = Weights(1.0, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = es.Objective(model, lambda m, _: bowl(m.w), torch.zeros(1), threads=1, path="kept")
    with es.Monitor(objective, optimizer, every=1, measures=list(measures), out=tmp_path / "a") as monitor:
        for step in range(8):
            optimizer.param_groups[0]["lr"] = 0.1 * (step + 1)
            optimizer.zero_grad()
            bowl(model.w).backward()
            optimizer.step()
            monitor.step()
    with es.Record.open(tmp_path / "a") as record:
        found = by_topic(advise_run(record))
    assert not found["critical-rate"].known
    assert not found["range"].known


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    with descend(tmp_path / "a", 0.1, measures=("loss",), weight_decay=0.1) as record:
        found = by_topic(advise_run(record))
    assert {topic for topic, section in found.items() if not section.known} == set(found)
    assert "'headroom'" in found["critical-rate"].text
    assert "'norms'" in found["trapped"].text


@pytest.mark.parametrize(("decay", "words"), [(1.5, "It looks so"), (1e-4, "There is no sign")])
def test_a_trap_of_weight_decay(tmp_path: Path, decay: float, words: str) -> None:
    # (abc - 1)²/2 is held at the origin by enough weight decay.
    with descend(
        tmp_path / "a",
        0.1,
        loss=lambda w: 0.5 * (w.prod() - 1) ** 2,
        start=(0.9, 0.8, 0.7),
        steps=60,
        measures=("loss", "norms"),
        weight_decay=decay,
    ) as record:
        assert by_topic(advise_run(record))["trapped"].text.startswith(words)


@pytest.mark.parametrize("sharpness", [0.3, 7.0])
def test_critical_rates_are_those_of_a_quadratic(sharpness: float) -> None:
    for one in critical_rates(sharpness):
        for factor, grows in ((0.97, False), (1.03, True)):
            w = torch.ones(1, dtype=torch.float64, requires_grad=True)
            optimizer = es.OPTIMIZERS.build(one.optimizer).build([w], lr=factor * one.rate)
            for _ in range(3000):
                w.grad = sharpness * w.detach()
                optimizer.step()
                if not 1e-30 < abs(float(w.detach())) < 1e30:
                    break
            assert (abs(float(w.detach())) > 1) is grows, (one.optimizer, factor)


@pytest.mark.parametrize("sharpness", [0.0, -1.0, math.nan])
def test_no_critical_rates_without_curvature(sharpness: float) -> None:
    with pytest.raises(InputError, match="expected a positive sharpness"):
        critical_rates(sharpness)


def runs(folder: Path, number: int) -> None:
    base = es.RunConfig(
        data="digits:train=40,test=40",
        model="mlp:widths=4",
        steps=12,
        threads=1,
        path="kept",
        measures=("loss", "sharpness@end", "norms@end"),
    )
    for place in range(number):
        es.train(dataclasses.replace(base, lr=0.01 * 2**place), folder / f"r{place}")


def test_several_runs(tmp_path: Path) -> None:
    runs(tmp_path, 6)
    places = {place.name: place for place in sorted(tmp_path.iterdir())}
    records = {name: es.Record.open(place) for name, place in places.items()}
    found = by_topic(advise_runs(places))
    tests = {name: record.series("loss", "test")[1][-1] for name, record in records.items()}
    best = min(tests, key=lambda name: tests[name])
    assert found["best-rate"].text.startswith(f"{records[best].config['lr']:.3g}, with")
    for topic, measure, part in (("norm", "norms", "l2"), ("flatness", "sharpness", "1")):
        ends = [record.series(measure, part)[1][-1] for record in records.values()]
        tau = scipy.stats.kendalltau(ends, list(tests.values())).statistic
        assert f"the test loss is {tau:.2f}, in [" in found[topic].text
    assert found["norm"].known
    few = by_topic(advise_runs(dict(list(places.items())[:3])))
    assert not few["flatness"].known
    assert "there are 3" in few["flatness"].text
    for record in records.values():
        record.close()


def test_runs_of_several_tasks_or_optimizers_are_not_compared(tmp_path: Path) -> None:
    base = es.RunConfig(
        data="digits:train=20,test=20", model="mlp:widths=3", steps=4, threads=1, path="kept", measures=("loss",)
    )
    for name, change in {"a": {}, "b": {"optimizer": "adam"}, "c": {"model": "mlp:widths=4"}}.items():
        es.train(dataclasses.replace(base, **change), tmp_path / name)
    places = {name: tmp_path / name for name in "abc"}
    every = by_topic(advise_runs(places))
    assert {topic for topic, section in every.items() if section.known} == {"regimes"}
    assert "several tasks" in every["flatness"].text
    two = by_topic(advise_runs({name: places[name] for name in "ab"}))
    assert "several optimizers" in two["best-rate"].text
    assert by_topic(advise_runs({"a": places["a"]}))["best-rate"].known


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with descend(tmp_path / "a", 0.5, measures=("loss", "sharpness", "threshold", "ratio")) as record:
        wanted = as_data(advise_run(record))
    assert main(["advise", str(tmp_path / "a"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(wanted))
    assert not (tmp_path / "a" / "advice").exists()
    assert main(["advise", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert all(section["question"] in said for section in wanted)
    page = (tmp_path / "a" / "advice" / "report.html").read_text(encoding="utf-8")
    assert "Where are other optimizers unstable at this sharpness?" in page


def test_a_function_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half the squared distance to 1 in each of four coordinates, of which one counts ten times.
    (tmp_path / "advised_bowl.py").write_text(
        "import torch\n"
        "class Bowl(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w = torch.nn.Parameter(torch.zeros(4))\n"
        "def make_run():\n"
        "    scale = torch.tensor([10.0, 1.0, 1.0, 1.0])\n"
        "    loss = lambda model, batch: 0.5 * (scale * (model.w - 1) ** 2).sum() + 0 * batch.sum()\n"
        "    return Bowl(), loss, torch.zeros(8, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["advise", "advised_bowl:make_run", "--seconds", "10", "--json"]) == 0
    found = {section["topic"]: section for section in json.loads(capsys.readouterr().out)}
    assert found["thresholds"]["figures"][0]["value"] == pytest.approx(10.0, rel=1e-3)
    assert 0.02 < found["rate"]["figures"][0]["value"] < 0.2  # stable below 2/10
    assert {section["topic"] for section in found.values() if section["known"]} == set(found) - {"flatness"}
    assert "edgescope sweep" in found["flatness"]["sentences"][0]
    assert main(["advise", "advised_bowl:nothing"]) == 2
    assert "no function 'nothing'" in capsys.readouterr().err
    assert main(["advise", "advised_bowl:make_run", "--out", "x"]) == 2
    assert "--out with a function" in capsys.readouterr().err


def test_the_command_refuses_what_holds_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["advise", str(tmp_path)]) == 2
    assert "contains no record" in capsys.readouterr().err
