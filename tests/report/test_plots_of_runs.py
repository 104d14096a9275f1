"""Runs in a few figures: several side by side, parts of measures, and all figures in one."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgescope as es
from edgescope.errors import InputError
from edgescope.report import plot_runs

LOSSES = [1.0, 0.6, 0.4]


def record_of(threshold: list[float], effective: float = 1.0) -> es.Record:
    """A run whose effective sharpness is ``effective`` times its sharpness, with an unlimited headroom at the end."""
    record = es.Record.in_memory()
    for step, (loss, edge) in enumerate(zip(LOSSES, threshold, strict=True)):
        values = {
            "loss": {"train": loss},
            "sharpness": {"1": 3.0 + step},
            "effective_sharpness": {"": effective * (3.0 + step)},
            "threshold": {"": edge},
            "ratio": {"": effective * (3.0 + step) / edge},
            "headroom": {"": [2.0, 1.5, float("inf")][step], "ratio": [0.5, 2 / 3, 0.0][step]},
        }
        record.append(step, [es.Reading(name, parts) for name, parts in values.items()])
    return record


def words(figure: es.figures.Figure) -> str:
    return figure.svg()


def test_several_runs_share_a_figure_by_their_names() -> None:
    plot = plot_runs({"small": record_of([5.0] * 3), "large": record_of([2.0] * 3)}, "loss", "ratio")
    assert [figure.name for figure in plot.figures] == ["loss", "ratio"]
    assert all(f">{name}<" in words(figure) for figure in plot.figures for name in ("small", "large"))
    with pytest.raises(InputError, match="no runs to plot"):
        plot_runs({})
    with pytest.raises(InputError, match="no measure 'los' in the record; expected one of"):
        plot_runs({"a": record_of([5.0] * 3)}, "los")


def test_the_sharpness_comes_with_its_threshold_and_nothing_else() -> None:
    (figure,) = plot_runs({"a": record_of([5.0] * 3)}, "sharpness").figures
    assert figure.name == "eigenvalues"
    assert "threshold 5" in words(figure)
    (adam,) = plot_runs({"a": record_of([5.0] * 3, effective=2.0)}, "sharpness").figures
    assert "threshold" not in words(adam)  # which is one of the effective sharpness
    names = [figure.name for figure in plot_runs({"a": record_of([5.0] * 3, 2.0)}, "sharpness", "threshold").figures]
    assert names == ["eigenvalues", "effective-sharpness"]


def test_a_threshold_that_moves_is_not_named_by_its_first_value() -> None:
    (figure,) = plot_runs({"a": record_of([9.0, 7.0, 5.0])}, "sharpness").figures
    assert ">threshold<" in words(figure)


def test_a_part_of_a_measure_is_drawn_alone_and_a_step_without_limit_is_no_divergence() -> None:
    (figure,) = plot_runs({"a": record_of([5.0] * 3)}, "headroom/ratio").figures
    assert "ratio" in figure.title
    whole = plot_runs({"a": record_of([5.0] * 3), "b": record_of([5.0] * 3)}, "headroom").figures
    assert all("diverged" not in words(figure) for figure in whole)
    with pytest.raises(InputError, match="no measure 'headroom/no'"):
        plot_runs({"a": record_of([5.0] * 3)}, "headroom/no")


def test_all_figures_in_one(tmp_path: Path) -> None:
    plot = plot_runs({"a": record_of([5.0] * 3)})
    whole = plot.combined("mine", "My run")
    text = words(whole)
    assert all(f">{figure.title}<" in text for figure in plot.figures)
    assert whole.save(tmp_path)["png"].name == "mine.png"
    assert "My run" in (tmp_path / "mine.svg").read_text(encoding="utf-8")
