"""The verdicts on schedules of weight decay, on records made by hand, in the studies `phases` and `grokking`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.grokking import GrokkingStudy
from edgescope.studies.phases import Phases

INF = np.inf


@pytest.mark.parametrize("study", [Phases(), GrokkingStudy()], ids=lambda study: study.name)
@pytest.mark.parametrize(
    ("constant", "scheduled", "verdict"),
    [
        ([400.0, 420, 380, 410], [200.0, 220, 180, 210], "holds"),
        ([200.0, 220, 180, 210], [400.0, 420, 380, 410], "fails"),
        ([400.0, 500, 400, 500], [500.0, 400, 400, 500], "open"),
        ([INF] * 4, [400.0, 410, 420, 430], "holds"),
        ([400.0, 410, 420, 430], [INF] * 4, "fails"),
        ([900.0, 910, 920, 930], [INF, 300, 310, 320], "open"),
        ([INF] * 4, [INF] * 4, "open"),
    ],
)
def test_runs_that_did_not_reach_the_target_count_with_the_steps_that_they_had(
    tmp_path: Path, study: Phases | GrokkingStudy, constant: list[float], scheduled: list[float], verdict: str
) -> None:
    arrays = {"steps/constant": np.array(constant), "steps/scheduled": np.array(scheduled)}
    record = Record.create(tmp_path / "run", config={"lr": 0.1})
    record.append(0, [Reading("decay trials", {"most": 1000.0}, arrays=arrays, note="network")])
    record.set_status("finished")
    runs = {"trials": StudyRun("trials", record, {"kind": "decay trials"})}
    (found,) = [one for one in study.findings(runs) if one.id == f"{study.name}.schedule-saves-steps"]
    assert found.verdict == verdict
    rows = {row.quantity: row.value for row in found.cases[0].beside}
    assert rows["schedule: in time"] == np.isfinite(scheduled).sum()
