"""The persistent homology of a trajectory: what the monitor shows it, what it keeps, and what it makes of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from edgescope.errors import EdgescopeWarning
from edgescope.losses import half_mse, supervised
from edgescope.measures.persistent_homology import PersistentHomology, random_projection
from edgescope.monitor import Monitor
from edgescope.objective import Objective
from edgescope.statistics import persistence
from edgescope.store import pack_state, unpack_state

LOSS = supervised(half_mse)


class Run:
    """A loop over mini-batches, its iterates and the losses of every sample there, as plain torch has them."""

    def __init__(self, measure: PersistentHomology | None, dtype: torch.dtype = torch.float32, every: int = 30) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
        self.data = torch.randn(24, 5, dtype=dtype), torch.randint(3, (24,))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        self.objective = Objective(self.model, LOSS, self.data, path="kept", threads=1)
        self.generator = torch.Generator().manual_seed(1)
        self.monitor = None
        if measure is not None:
            self.monitor = Monitor(self.objective, self.optimizer, every=every, measures=[measure])
        self.iterates: list[np.ndarray] = [self.flat()]
        self.losses: list[np.ndarray] = [self.each()]

    def flat(self) -> np.ndarray:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).double().numpy()

    def each(self) -> np.ndarray:
        onehot = nn.functional.one_hot(self.data[1], 3)
        with torch.no_grad():
            return (0.5 * (self.model(self.data[0]) - onehot).square().sum(1)).double().numpy()

    def steps(self, count: int) -> None:
        for _ in range(count):
            chosen = torch.randint(24, (6,), generator=self.generator)
            self.optimizer.zero_grad()
            LOSS(self.model, tuple(t[chosen] for t in self.data)).backward()
            self.optimizer.step()
            if self.monitor is not None:
                self.monitor.step()
            self.iterates.append(self.flat())
            self.losses.append(self.each())


def tree(points: np.ndarray, metric: str, alpha: float = 1.0) -> float:
    distances = cdist(points, points, metric) / (points.shape[1] if metric == "cityblock" else 1)
    return float((minimum_spanning_tree(distances).data ** alpha).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_sums_and_dimension_are_those_of_the_last_iterates(alpha: float, dtype: torch.dtype) -> None:
    run = Run(PersistentHomology(iterates=25, metric="both", alpha=alpha), dtype)
    run.steps(60)
    assert run.monitor is not None
    reading = run.monitor.latest["persistent_homology"]
    points, losses = np.stack(run.iterates[-25:]), np.stack(run.losses[-25:])
    assert reading.values["lifetime_sum/euclidean"] == pytest.approx(tree(points, "euclidean", alpha), rel=1e-5)
    assert reading.values["lifetime_sum/loss"] == pytest.approx(tree(losses, "cityblock", alpha), rel=1e-4)
    expected = persistence(cdist(points, points), alpha=alpha)
    assert reading.values["dimension/euclidean"] == pytest.approx(expected.dimension, rel=1e-4)
    assert reading.errors["dimension/euclidean"] == pytest.approx(expected.dimension_error, rel=1e-3)
    assert set(reading.values) == {
        f"{what}/{of}" for what in ("dimension", "lifetime_sum") for of in ("euclidean", "loss")
    }


def test_stride_and_after_choose_the_iterates_and_a_short_trajectory_is_a_note() -> None:
    run = Run(PersistentHomology(iterates=20, stride=2, after=11), every=25)
    run.steps(49)
    assert run.monitor is not None
    reading = run.monitor.latest["persistent_homology"]
    assert reading.values == {}
    assert reading.note == "a trajectory of 7 iterates; expected the 20 asked for"
    run.steps(26)
    points = np.stack([run.iterates[step] for step in range(12, 76, 2)][-20:])
    found = run.monitor.value("persistent_homology", "lifetime_sum/euclidean")
    assert found == pytest.approx(tree(points, "euclidean"), rel=1e-5)


def test_it_continues_bit_for_bit_from_a_checkpoint_of_the_monitor() -> None:
    whole = Run(PersistentHomology(iterates=20, metric="both", dimensions=30))
    whole.steps(60)
    first = Run(PersistentHomology(iterates=20, metric="both", dimensions=30))
    first.steps(47)
    assert first.monitor is not None
    assert whole.monitor is not None
    tensors, meta = pack_state("monitor", first.monitor.state())
    second = Run(PersistentHomology(iterates=20, metric="both", dimensions=30))
    assert second.monitor is not None
    second.model.load_state_dict(first.model.state_dict())
    second.generator.set_state(first.generator.get_state())
    second.monitor.load_state(unpack_state("monitor", tensors, meta))
    second.steps(13)
    a, b = (run.monitor.latest["persistent_homology"] for run in (whole, second))  # type: ignore[union-attr]
    assert a.values
    assert (a.values, a.errors, a.cost) == (b.values, b.errors, b.cost)


def test_what_following_spends_stands_in_the_readings() -> None:
    run = Run(PersistentHomology(iterates=20, metric="loss"))
    before = run.objective.spent
    run.steps(60)
    assert run.monitor is not None
    spent, costs = run.objective.spent - before, run.monitor.record.costs()
    assert costs["losses"].sum() == 61 <= spent.losses
    euclidean = Run(PersistentHomology(iterates=20))
    euclidean.steps(30)
    assert euclidean.monitor is not None
    assert euclidean.monitor.record.costs()["losses"].sum() == 0


def test_training_is_the_same_bit_for_bit() -> None:
    plain, watched = Run(None), Run(PersistentHomology(iterates=20, metric="both"))
    plain.steps(40)
    watched.steps(40)
    assert np.array_equal(plain.iterates[-1], watched.iterates[-1])


@pytest.mark.parametrize("dimensions", [64, 1024])
def test_the_projection_keeps_distances_as_well_as_it_says(dimensions: int) -> None:
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(40, 20_000, generator=rng, dtype=torch.float64).cumsum(0)
    ratios = []
    for seed in range(6):
        project = random_projection(20_000, dimensions, seed)
        kept = torch.stack([project(point) for point in points])
        ratios.append((cdist(kept, kept) / np.maximum(cdist(points, points), 1e-300))[np.triu_indices(40, 1)])
    squares = np.square(ratios)
    # Squared lengths are right in the mean, with a variance of 2 / k; distances along one walk are not independent,
    # so the mean over 6 projections has that of one or so.
    assert squares.mean() == pytest.approx(1, abs=3 * math.sqrt(2 / dimensions / 6))
    assert 0.5 < np.std(ratios) * math.sqrt(2 * dimensions) < 1.3
    both = random_projection(20_000, dimensions, 3)(points[1] + 2 * points[2])
    assert torch.allclose(both, project_of(3, dimensions, points[1]) + 2 * project_of(3, dimensions, points[2]))


def project_of(seed: int, dimensions: int, point: Tensor) -> Tensor:
    return random_projection(len(point), dimensions, seed)(point)


def test_a_large_model_is_kept_in_few_dimensions() -> None:
    measure = PersistentHomology(iterates=20, dimensions=30)  # the network has 39 parameters
    run = Run(measure, every=40)
    run.steps(40)
    state = measure.state()
    assert state["kept"]["euclidean"].shape == (20, 30)
    assert state["kept"]["euclidean"].dtype == torch.float32
    project = random_projection(39, 30, 0)
    points = torch.stack([project(torch.from_numpy(w)) for w in run.iterates[-20:]]).numpy()
    assert run.monitor is not None
    found = run.monitor.value("persistent_homology", "lifetime_sum/euclidean")
    assert found == pytest.approx(tree(points, "euclidean"), rel=1e-5)


def test_what_cannot_be_had_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    still = Run(PersistentHomology(iterates=20))
    still.optimizer.param_groups[0]["lr"] = 0.0
    still.steps(30)
    normalised = Objective(
        nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), LOSS, still.data, mode="train", path="kept", threads=1
    )
    monitor = Monitor(normalised, every=30, measures=[PersistentHomology(iterates=20, metric="loss")])
    for _ in range(30):
        monitor.step()
    assert still.monitor is not None
    found = {"coincide": still.monitor, "batch statistics": monitor}
    for words, of in found.items():
        reading = of.latest["persistent_homology"]
        assert reading.values == {}
        assert words in reading.note
        assert "\n" not in reading.note


def test_after_divergence_nothing_is_kept_and_nothing_read() -> None:
    measure = PersistentHomology(iterates=20)
    run = Run(measure, every=5)
    run.steps(30)
    with torch.no_grad():
        run.model[0].weight.fill_(math.nan)
    with pytest.warns(EdgescopeWarning, match="not finite at step 35"):
        run.steps(10)
    assert run.monitor is not None
    assert "diverged" in run.monitor.latest["persistent_homology"].note


def test_a_training_run_resumes_to_the_same_record(tmp_path: Path) -> None:
    from edgescope.store import Record
    from edgescope.training import RunConfig, train

    def config(**more: Any) -> RunConfig:
        common = {"data": "digits:train=60,test=20", "model": "mlp:widths=4", "every": 20, "checkpoint_every": 10}
        measures = ("loss", "persistent_homology:iterates=20,metric=both,dimensions=100")
        return RunConfig(**common, measures=measures, path="kept", threads=1, steps=40, lr=0.1, **more)

    train(config(), tmp_path / "whole")

    def stop(share: float, words: str) -> None:
        if share > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "cut", progress=stop)
    train(config(), tmp_path / "cut", resume=True)
    with Record.open(tmp_path / "whole") as one, Record.open(tmp_path / "cut") as other:
        assert one.fingerprint() == other.fingerprint()
        assert len(one.series("persistent_homology", "dimension/loss")[1]) == 2
