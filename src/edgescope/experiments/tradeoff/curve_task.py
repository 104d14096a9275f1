"""One curve as a task: gradient flow to the threshold, then gradient descent at multiples of the critical rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from edgescope.experiments.manifest import ManifestEntry
from edgescope.experiments.tradeoff.curves import DESCENT, FLOW, LEAST
from edgescope.linalg import top_eigenpairs
from edgescope.progress import Progress, part_of
from edgescope.store import Record
from edgescope.sweep import PlannedRun, Tagged, run_training
from edgescope.training import FlowEnd, Parts, RunConfig, descent_at, flow_of
from edgescope.training.batched_training import train_batched
from edgescope.training.to_threshold import ALONG_THE_FLOW

PATIENCE = 4.0
"""How many times the flow's time descent may take to the threshold."""

FREE_OF_SCALE = ("average_sharpness@end", "worst_case_sharpness:restarts=1@end", "path_norm@end")
AT_THE_END = ("sharpness@end", "norms@end", "accuracy@end", "settled_norms:steps=20@end")
"""Few steps after the end, since at large rates many would go on learning; what oscillates dies out in them."""


@dataclass(frozen=True)
class CurveTask(Tagged):
    """``base`` down to its ``stop_loss``, by gradient flow and by descent at ``ratios`` times the critical rate.

    ``base`` is a configuration on the full batch whose learning rate and steps do not count. Every run has a record of
    its own, in the folders "flow" and "x" with its ratio. ``stacked`` trains all rates together, which models with
    batch statistics cannot. Where gradient flow does not reach the threshold in ``flow_steps`` nothing else is run.
    ``tags`` are those of the curve; a run has its role and its ratio beside them.
    """

    name: str
    cost: float
    base: RunConfig
    ratios: tuple[float, ...]
    stacked: bool = True
    flow_steps: int = 20_000

    def entries(self) -> list[ManifestEntry]:
        """The runs, in folders below the task's own."""
        tags = {FLOW: {"role": FLOW}} | {_folder(r): {"role": DESCENT, "ratio": f"{r:g}"} for r in self.ratios}
        return [
            ManifestEntry(f"{self.name}/{n}", f"{self.name}/{n}", dict(self.tags) | more) for n, more in tags.items()
        ]

    def planned_runs(self) -> list[PlannedRun]:
        # A step of the flow takes 3 gradients, and about 5 products at every fifth; it covers the time of one step at
        # the critical rate, and descent at another rate usually takes as long.
        each = 3 + 2 + sum(1 / ratio for ratio in self.ratios)
        note = (
            f"gradient flow and {len(self.ratios)} descents; how long is not known: about {float(f'{each:.2g}'):g},000 "
            "gradients for each 1,000 steps of the flow"
        )
        return [PlannedRun(self.base, None, 1 + len(self.ratios), note)]

    @property
    def expected_seconds(self) -> float:
        return self.cost

    def run(self, folder: Path, progress: Progress) -> None:
        flow, time = self._flow(folder / FLOW, part_of(progress, 0.0, 0.2, "gradient flow, "))
        if not flow.end.reached:
            return
        configs = {}
        for ratio in self.ratios:
            lr = ratio * flow.critical_lr
            # A network with batch statistics knows its loss at measurements alone.
            config = descent_at(self.base, lr, ("loss@end" if self.stacked else "loss", *AT_THE_END, *FREE_OF_SCALE))
            steps = math.ceil(PATIENCE * time / lr)
            configs[_folder(ratio)] = replace(config, steps=steps, checkpoint_every=max(500, steps // 4))
        if self.stacked:
            folders = {name: folder / name for name in configs}
            tags = dict(self.tags) | {"role": DESCENT}
            train_batched(configs, folders, folder, part_of(progress, 0.2, 1.0), tags=tags)
            return
        for number, (name, config) in enumerate(configs.items()):
            start, end = (0.2 + 0.8 * place / len(configs) for place in (number, number + 1))
            tags = dict(self.tags) | {"role": DESCENT}
            run_training(config, folder / name, part_of(progress, start, end, f"{name}, "), tags)

    def _flow(self, folder: Path, progress: Progress) -> tuple[FlowEnd, float]:
        """Where gradient flow ended, and at which time."""
        config = flow_of(self.base, (*ALONG_THE_FLOW, "time@end", *FREE_OF_SCALE))
        run_training(replace(config, steps=self.flow_steps), folder, progress, dict(self.tags) | {"role": FLOW})
        with Record.open(folder) as record:
            if LEAST not in record.info:
                parts = Parts(self.base)
                objective = parts.objective(parts.samples, parts.mode, path="kept", threads=1)
                record.set_info(LEAST, float(top_eigenpairs(objective, k=1, which="smallest").values[0]))
            return FlowEnd.of(record), float(record.series("time")[1][-1])


def _folder(ratio: float) -> str:
    return f"x{ratio:g}"
