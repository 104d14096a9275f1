"""How good the suggestion of a learning rate is: regret against a sweep of 25 rates, beside Lightning's and fastai's.

Eight small tasks, five seeds. A training run has 300 steps on mini-batches of 32 with 30 steps of linear warm-up, at a
constant rate after it; its loss is that of all training data at the end, of the mean of the last weights. The regret of
a rate is its loss over that of the best rate of the sweep of the same task and seed. The finders of Lightning and
fastai are those of their packages, at their defaults and with as many steps as Edgescope's took gradients for the same
task and seed. The table goes to ``docs/benchmarks.md``; ``--quick`` takes one task and seed, to see that it runs.

Every pair of task and seed is appended to ``learning_rate.jsonl`` when it is measured. A later call measures only the
pairs that are not there; to begin anew, delete the file. ``--so-far`` writes the table of what is there.

fastai's training loop needs matplotlib and some packages of its own; benchmarks/requirements.lock has them, some 100 MB
with Lightning's. Where a package is not installed its row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import statistics
import tempfile
import textwrap
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import torch
from curvature import write
from learning_rate_tasks import TASKS, Task
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es
from edgescope.tuning.batch_stream import BatchStream
from edgescope.tuning.training_copy import TrainingCopy

STEPS, WARM_UP, BATCH = 300, 30, 32
RATES: Final = [float(f"{10 ** (-4 + 5 * k / 24):.3g}") for k in range(25)]
CENSORED = 1e6
"""Regret of a run that diverged."""

RESULTS: Final = Path(__file__).with_suffix(".jsonl")


def final_loss(task: Task, rate: float, seed: int) -> float:
    """The loss of all training data after a training run, infinite where it diverged."""
    data = task.data()
    training = TrainingCopy(task.model(seed), task.loss_fn, task.optimizer)
    stream = BatchStream(data, BATCH, torch.device("cpu")).batches(1000 + seed)
    losses = training.train(stream, [rate * min(1.0, (k + 1) / WARM_UP) for k in range(STEPS)])
    if not math.isfinite(losses[-1]):
        return math.inf
    with torch.no_grad():
        loss = float(task.loss_fn(training.model, data))
    return loss if math.isfinite(loss) else math.inf


def ours(task: Task, seed: int) -> tuple[float, int]:
    """The suggestion, and the gradients it took."""
    found = es.find_lr(
        lambda number: task.model(seed + 100 * number),
        task.loss_fn,
        task.data(),
        optimizer=task.optimizer,
        batch=BATCH,
        seconds=None,
    )
    return found.suggested, found.cost.gradients + found.cost.losses // 3


def half_of_critical(task: Task, seed: int) -> float:
    """Half the median critical rate at the start, for comparison: the rule that was refuted."""
    found = es.find_lr(
        task.model(seed), task.loss_fn, task.data(), optimizer=task.optimizer, batch=BATCH, seeds=1, steps=5, warm_up=1
    )
    return found.at_start.median / 2


def loader(task: Task, seed: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(*task.data()), batch_size=BATCH, shuffle=True, generator=generator, drop_last=True)


def lightning(task: Task, seed: int, steps: int) -> float:
    """The suggestion of Lightning's Tuner.lr_find over 1e-6 to 10; NaN where it has none."""
    import lightning.pytorch as pl
    from lightning.pytorch.tuner import Tuner

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = task.model(seed), 1e-3

        def training_step(self, batch: Any, number: int) -> Tensor:
            loss: Tensor = task.loss_fn(self.model, batch)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return es.OPTIMIZERS.build(task.optimizer).build(self.model.parameters(), lr=self.lr)

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        trainer = pl.Trainer(
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            default_root_dir=folder,
        )
        found = Tuner(trainer).lr_find(
            Module(), loader(task, seed), min_lr=1e-6, max_lr=10, num_training=steps, update_attr=False
        )
    rate = None if found is None else found.suggestion()
    return math.nan if rate is None else float(rate)


def fastai(task: Task, seed: int, steps: int) -> float:
    """The suggestion of fastai's Learner.lr_find (its "valley"); NaN where it has none."""
    from fastai.callback.schedule import lr_find  # noqa: F401 (gives Learner the method)
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    def make(parameters: Any, lr: float, **options: Any) -> Any:
        flat = [p for group in parameters for p in (group if isinstance(group, list | tuple) else [group])]
        return OptimWrapper(opt=es.OPTIMIZERS.build(task.optimizer).build(flat, lr=lr))

    data = DataLoaders(loader(task, seed), loader(task, seed))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        learner = Learner(data, task.model(seed), loss_func=task.criterion, opt_func=make, path=folder)
        with learner.no_bar(), learner.no_logging():
            found = learner.lr_find(start_lr=1e-7, end_lr=10, num_it=steps, show_plot=False)
    return float(found.valley)


PEERS: Final = {"Lightning": lightning, "fastai": fastai}
HALF = "half the critical rate at the start"
CUSTOMARY = "what is customary: 0.1, 0.01 with momentum, 0.001 for Adam and RMSprop"


def customary(optimizer: str) -> float:
    """The rate that many begin with, whatever the task."""
    if not optimizer.startswith("sgd"):
        return 1e-3
    return 0.01 if "momentum" in optimizer else 0.1


@dataclass
class Column:
    """The regrets of one way to choose, over tasks and seeds."""

    name: str
    regrets: dict[str, list[float]]
    missing: str = ""

    @property
    def all(self) -> list[float]:
        return [regret for own in self.regrets.values() for regret in own]

    def row(self) -> str:
        if not self.all:
            return f"| {self.name} | {self.missing} | | | | |"
        near = sum(regret <= 1.5 for regret in self.all)
        diverged = sum(regret >= CENSORED for regret in self.all)
        shown = (statistics.median(self.all), float(np.percentile(self.all, 90)), max(self.all))
        return f"| {self.name} | {' | '.join(map(in_words, shown))} | {near} of {len(self.all)} | {diverged} |"


def in_words(regret: float) -> str:
    """A regret to three digits."""
    return "diverged" if regret >= CENSORED / 10 else f"{regret:.3g}"


def regret(task: Task, rate: float, seed: int, best: float) -> float:
    loss = final_loss(task, rate, seed) if math.isfinite(rate) and rate > 0 else math.inf
    return min(loss / best, CENSORED)


@dataclass(frozen=True)
class Pair:
    """Of one task and seed: the regret of each way to choose, the packages that are missing, and the budget."""

    task: str
    seed: int
    regrets: dict[str, float]
    missing: dict[str, str]
    budget: int
    torch: str

    @classmethod
    def known(cls) -> dict[tuple[str, int], Pair]:
        """The pairs that earlier calls have measured with this version of torch and all packages."""
        lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
        found = [cls(**json.loads(line)) for line in lines]
        return {(one.task, one.seed): one for one in found if one.torch == torch.__version__ and not one.missing}


def measured(number: int, seed: int, keep: bool) -> Pair:
    """Sweep, ask every finder, and train at what it suggests; ``keep`` appends the pair to the file of results."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task = TASKS[number]
    sweep = [final_loss(task, rate, seed) for rate in RATES]
    best = min(sweep)
    rate, budget = ours(task, seed)
    chosen = {"Edgescope": rate, HALF: half_of_critical(task, seed), CUSTOMARY: customary(task.optimizer)}
    missing = {}
    for name, finder in PEERS.items():
        try:
            chosen[name] = finder(task, seed, budget)
            chosen[f"{name}, 100 steps"] = finder(task, seed, 100)
        except ImportError as error:
            missing[name] = f"not installed ({error.name})"
    found = {name: regret(task, value, seed, best) for name, value in chosen.items()}
    print(task.name, seed, f"best {RATES[sweep.index(best)]:g}: {best:.3g};", chosen, found, flush=True)
    pair = Pair(task.name, seed, found, missing, budget, torch.__version__)
    if keep:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(pair)) + "\n")
    return pair


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one task and seed, nothing written")
    arguments.add_argument(
        "--so-far", action="store_true", help="measure nothing, and write the table of what is known"
    )
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--jobs", type=int, default=1, help="processes, each with one thread")
    given = arguments.parse_args()
    numbers, seeds = ([4], 1) if given.quick else (list(range(len(TASKS))), given.seeds)
    pairs = [(number, seed) for seed in range(seeds) for number in numbers]
    results = {} if given.quick else Pair.known()
    due = [(number, seed) for number, seed in pairs if (TASKS[number].name, seed) not in results]
    due = [] if given.so_far else due
    parallel = joblib.Parallel(given.jobs, backend="multiprocessing")
    for pair in parallel(joblib.delayed(measured)(*one, keep=not given.quick) for one in due):
        results[pair.task, pair.seed] = pair
    names = ("Edgescope", "Lightning", "fastai", *(f"{name}, 100 steps" for name in PEERS), HALF, CUSTOMARY)
    columns = {name: Column(name, {TASKS[number].name: [] for number in numbers}) for name in names}
    asked = [results[key] for number, seed in pairs if (key := (TASKS[number].name, seed)) in results]
    for pair in asked:
        for name, value in pair.regrets.items():
            columns[name].regrets[pair.task].append(value)
        for name, why in pair.missing.items():
            columns[name].missing = why
    budgets = [pair.budget for pair in asked]
    tasks = tuple(TASKS[number] for number in numbers)
    report(tasks, seeds, list(columns.values()), budgets, len(pairs), given.quick)


def report(
    tasks: tuple[Task, ...], seeds: int, columns: list[Column], budgets: list[int], pairs: int, quick: bool
) -> None:
    share = f"{len(budgets)} of the {pairs} pairs of task and seed"
    missing = [f"**Not complete:** {share} have been measured.", ""] if len(budgets) < pairs else []
    lines = [
        "## (lr) Regret of a suggested learning rate",
        "",
        *missing,
        *textwrap.wrap(
            f"{len(tasks)} tasks and {seeds} seeds: the loss of all training data after {STEPS} steps on mini-batches"
            f" of {BATCH}, with {WARM_UP} steps of warm-up, at the suggested rate, over that at the best of"
            f" {len(RATES)} rates from {RATES[0]:g} to {RATES[-1]:g}. Lightning's and fastai's finders are those of"
            " their packages, at their own defaults, with as many steps as Edgescope's took gradients (median"
            f" {statistics.median(budgets):,.0f}; the sweep takes {len(RATES) * STEPS:,}), and with their usual 100."
            " Values below 1 lie between two rates of the sweep, or are luck.",
            width=120,
        ),
        "",
        "| learning rate from | median regret | 90% of runs below | worst | at most 1.5 | diverged |",
        "|---|---|---|---|---|---|",
        *(column.row() for column in columns),
        "",
        f"| median regret by task | {' | '.join(c.name for c in columns[:5])} |",
        f"|---|{'---|' * 5}",
    ]
    for task in tasks:
        cells = [c.regrets[task.name] for c in columns[:5]]
        values = ["" if not cell else in_words(statistics.median(cell)) for cell in cells]
        lines.append(f"| {task.name} | {' | '.join(values)} |")
    print("\n".join(lines))
    if not quick:
        write("lr", lines, "float32")


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s")
