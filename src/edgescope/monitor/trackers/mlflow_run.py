"""Readings as metrics of a run of MLflow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from edgescope.extras import load, require


class MLflowRun:
    """Logs to the run that is active, else to a new one of the experiment "edgescope".

    That is kept where ``MLFLOW_TRACKING_URI`` says, or in ``mlflow.db`` in the folder of the record (the working
    directory without one), a database of SQLite, since MLflow refuses new folders of files. Characters that MLflow
    refuses in keys become underscores. MLflow's own settings are left as they are.
    """

    def __init__(self, folder: Path | None) -> None:
        require("mlflow", "log='mlflow' needs", "mlflow")
        self._folder = folder or Path()
        self._client: Any = None
        self._id, self._own = "", False

    def log(self, values: dict[str, float], step: int) -> None:
        if self._client is None:
            self._open(load("mlflow"))
        for key, value in values.items():
            self._client.log_metric(self._id, re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII), value, step=step)

    def close(self) -> None:
        if self._client is not None and self._own:
            self._client.set_terminated(self._id)

    def _open(self, mlflow: Any) -> None:
        active = mlflow.active_run()
        if active is not None:
            self._id, self._client = active.info.run_id, mlflow.MlflowClient()
            return
        known, folder = os.environ.get("MLFLOW_TRACKING_URI"), self._folder.resolve()
        client = mlflow.MlflowClient(tracking_uri=known or f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
        experiment = client.get_experiment_by_name("edgescope")
        if experiment is not None:
            place = experiment.experiment_id
        else:  # by default artifacts would go to the working directory
            artifacts = None if known else (folder / "mlartifacts").as_uri()
            place = client.create_experiment("edgescope", artifact_location=artifacts)
        self._id = client.create_run(place).info.run_id
        self._client, self._own = client, True
