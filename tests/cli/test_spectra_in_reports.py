"""The report of a run shows the spectra that it measured, one moment above the other."""

from __future__ import annotations

from pathlib import Path

from edgescope.report.run_report import run_figures
from edgescope.store import Record
from edgescope.training import RunConfig, train


def test_a_run_with_spectra_has_a_ridge_in_its_report(tmp_path: Path) -> None:
    config = RunConfig(
        data="digits:train=40,test=20",
        model="mlp:widths=4",
        lr=0.3,
        steps=20,
        every=10,
        measures=("loss", "sharpness", "effective_sharpness", "threshold", "spectrum:probes=1,steps=10"),
        threads=1,
        path="kept",
    )
    train(config, tmp_path / "with")
    with Record.open(tmp_path / "with") as record:
        figures = {figure.name: figure for figure in run_figures({"with": record})}
    drawn = figures["spectrum-1"].svg()
    assert all(f">step {step}<" in drawn for step in (0, 10, 20))
    train(RunConfig(**{**config.__dict__, "measures": ("loss",)}), tmp_path / "without")
    with Record.open(tmp_path / "without") as record:
        assert not [f.name for f in run_figures({"without": record}) if f.name.startswith("spectrum")]
