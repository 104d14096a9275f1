"""How many samples the generalizing scenario needs: networks without bias under 1-SAM, over n and d."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float

from edgescope.data import DATA
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.task_record import open_record
from edgescope.measures import Reading
from edgescope.models import MODELS
from edgescope.objective.modules import thread_count
from edgescope.simulate.relu import ReluDescent, advance_together
from edgescope.sweep import Tagged

Values = Float[np.ndarray, " seeds"]


@dataclass(frozen=True)
class SampleSizesTask(Tagged):
    """1-SAM of ``steps`` steps on xor in ``dim`` dimensions, for n = share * d log d with each of ``shares``.

    In the record step n has the test errors with n samples, a part for each seed.
    """

    name: str
    cost: float
    dim: int
    shares: tuple[float, ...]
    steps: int
    width: int
    seeds: tuple[int, ...]
    lr: float = 0.01
    rho: float = 0.05

    @property
    def sizes(self) -> list[int]:
        return [round(share * scale(self.dim)) for share in self.shares]

    @property
    def expected_seconds(self) -> float:
        return self.cost

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        began = time.perf_counter()
        config = {
            "data": f"xor:dim={self.dim}",
            "model": self.model,
            "loss": "squared",
            "optimizer": f"1-SAM, ρ {self.rho:g}",
            "lr": self.lr,
            "batch": 1,
            "seeds": len(self.seeds),
            "updates": self.steps,
            "dim": self.dim,
        }
        threads = torch.get_num_threads()
        with (
            torch.random.fork_rng(devices=[]),
            thread_count(1),
            open_record(folder, config, self.tags) as record,
        ):
            done = set() if record.last_step is None else set(record.series("test_error", "0")[0].tolist())
            for number, size in enumerate(self.sizes):
                progress(number / len(self.sizes), f"{size} samples in {self.dim} dimensions")
                if size not in done:
                    record.append(size, self.readings(size, threads))
                    record.set_info("seconds", (record.info.get("seconds") or 0.0) + time.perf_counter() - began)
                    began = time.perf_counter()
            record.set_status("finished")

    @property
    def model(self) -> str:
        return f"shallow:architecture=no-bias,width={self.width}"

    def readings(self, size: int, threads: int) -> Sequence[Reading]:
        """Errors on training and test samples after training on ``size`` samples."""
        descents, tests = [], []
        for seed in self.seeds:
            data = DATA.build(f"xor:dim={self.dim},train={size},seed={seed}").load()
            model = MODELS.build(self.model).build(data.input_shape, 1, seed)
            descents.append(ReluDescent(model, data.inputs, data.targets, lr=self.lr, rho=self.rho, seed=seed))  # type: ignore[arg-type]
            tests.append((data, (data.test_inputs.double(), data.test_targets.double())))
        advance_together(descents, self.steps, threads=threads)
        found: dict[str, dict[str, float]] = {"test_error": {}, "training_error": {}}
        with torch.no_grad():
            for number, (descent, (data, test)) in enumerate(zip(descents, tests, strict=True)):
                train = data.inputs.double(), data.targets.double()
                for name, (x, y) in (("test_error", test), ("training_error", train)):
                    found[name][str(number)] = float((descent.network(x) * y <= 0).double().mean())
        return [Reading(name, values) for name, values in found.items()]


def scale(dim: int) -> float:
    """d log d."""
    return dim * math.log(dim)


def errors_by_size(run: StudyRun) -> dict[int, Values]:
    """Test errors of every seed by number of samples, from the smallest."""
    rows = run.record.table().filter(pl.col("measure") == "test_error").group_by("step").agg("value").sort("step")
    return {size: np.array(values) for size, values in rows.iter_rows()}


def sufficient_samples(errors: dict[int, Values], level: float) -> Values:
    """The number of samples at which the error of each seed first falls to ``level``, between measured sizes by a
    straight line; NaN where it does not, or lies there from the first."""
    sizes, curves = np.array(list(errors), dtype=float), np.stack(list(errors.values()))
    found = np.full(curves.shape[1], np.nan)
    for seed, curve in enumerate(curves.T):
        falls = np.flatnonzero((curve[:-1] > level) & (curve[1:] <= level))
        if falls.size:
            around = slice(int(falls[0]), int(falls[0]) + 2)
            found[seed] = np.interp(-level, -curve[around], sizes[around])
    return found
