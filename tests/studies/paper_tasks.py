"""One task of each preset "paper", with its data and its network made small, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgescope.experiments.central.flow_task import FlowTask
from edgescope.experiments.dimension.stack_task import StackTask
from edgescope.experiments.geometries.runs import BelowThresholdTask
from edgescope.experiments.phases.batch_traps import TrapTask
from edgescope.experiments.tradeoff.curve_task import CurveTask
from edgescope.studies import STUDIES
from edgescope.sweep import Task, TrainTask
from edgescope.training import RunConfig

STEPS = 4


def task_of(study: str, name: str) -> Task:
    (found,) = [task for task in STUDIES.build(study).tasks("paper", 3) if task.name == name]
    return found


def small(config: RunConfig, data: str = "digits:train=30,test=10", width: int = 4) -> RunConfig:
    model = f"{config.model.partition('widths=')[0]}widths={width},{config.model.partition(',')[2]}".rstrip(",")
    return replace(config, data=data, model=model, steps=STEPS, every=2, checkpoint_every=1)


def edge() -> Task:
    task = task_of("edge", "GD-0.01")
    assert isinstance(task, TrainTask)
    return replace(task, config=small(task.config))


def geometries() -> Task:
    task = task_of("geometries", "MLP-Linf")
    assert isinstance(task, BelowThresholdTask)
    return replace(task, config=small(task.config))


def grokking() -> Task:
    task = task_of("grokking", "p97-lr1-decay0.0003")
    assert isinstance(task, TrainTask)
    return replace(task, config=small(task.config, "modular-addition:modulus=5"))


def dimension() -> Task:
    task = task_of("dimension", "mlp-b16")
    assert isinstance(task, StackTask)
    measures = [text.replace("probes=500", "probes=2").replace("batches=100", "batches=2") for text in task.measures]
    measures = [text.replace("samples=500", "samples=20") for text in measures]
    model = task.model.replace("16x16", "4x4")
    data = "digits:train=32,test=10,pool=4"
    return replace(
        task, data=data, model=model, lrs=task.lrs[:2], epochs=STEPS // 2, iterates=2, measures=tuple(measures)
    )


def tradeoff() -> Task:
    task = task_of("tradeoff", "MLP-MSE-seed3")
    assert isinstance(task, CurveTask)
    base = replace(small(task.base), stop_loss=0.45, every=None)
    return replace(task, base=base, ratios=(0.5, 1.5), flow_steps=100)


def phases() -> Task:
    task = task_of("phases", "trap-rank-1")
    assert isinstance(task, TrapTask)
    return replace(task, pieces=tuple(replace(trial, held=5) for trial in task.pieces[:STEPS]), epochs=1)


def central() -> Task:
    task = task_of("central", "gd-CNN-6")
    assert isinstance(task, FlowTask)
    config = replace(task.config, data="digits:train=30,test=10,pool=4", model="mlp:widths=4,activation=tanh", lr=0.4)
    return replace(task, config=config, horizon=STEPS, every=2, checkpoint_every=2)


SMALL: dict[str, Callable[[], Task]] = {
    "central": central,
    "edge": edge,
    "geometries": geometries,
    "grokking": grokking,
    "dimension": dimension,
    "phases": phases,
    "tradeoff": tradeoff,
}
"""By the name of the study."""
