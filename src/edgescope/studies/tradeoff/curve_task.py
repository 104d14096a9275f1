"""One curve as a task: gradient flow to the threshold, then gradient descent at multiples of the critical rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgescope.linalg import top_eigenpairs
from edgescope.store import Record
from edgescope.studies.study import carry_out
from edgescope.studies.tradeoff.curves import FLOW, LEAST
from edgescope.training import FlowEnd, Parts, RunConfig, descent_at, flow_of
from edgescope.training.to_threshold import ALONG_THE_FLOW
from edgescope.training.together import train_together

PATIENCE = 4.0
"""How many times the flow's time descent may take to the threshold."""

FLOW_STEPS = 20_000

FREE_OF_SCALE = ("average_sharpness@end", "worst_case_sharpness:restarts=1@end", "path_norm@end")
AT_THE_END = ("sharpness@end", "norms@end", "accuracy@end", "settled_norms:steps=20@end")
"""Few steps after the end, since at large rates many would go on learning; what oscillates dies out in them."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class CurveTask:
    """``base`` down to its ``stop_loss``, by gradient flow and by descent at ``ratios`` times the critical rate.

    ``base`` is a configuration on the full batch whose learning rate and steps do not count. Every run has a record of
    its own, in the folders "flow" and "x" with its ratio. ``stacked`` trains all rates together, which models with
    batch statistics cannot. Where gradient flow does not reach the threshold in 20,000 steps nothing else is run.
    """

    name: str
    cost: float
    base: RunConfig
    ratios: tuple[float, ...]
    stacked: bool = True

    def folders(self) -> list[str]:
        """Of all runs, below the task's own."""
        return [FLOW, *map(_folder, self.ratios)]

    def run(self, folder: Path, progress: Progress) -> None:
        flow, time = self._flow(folder / FLOW, lambda share, words: progress(0.2 * share, f"gradient flow, {words}"))
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
            train_together(configs, folders, folder, lambda share, words: progress(0.2 + 0.8 * share, words))
            return
        for number, (name, config) in enumerate(configs.items()):

            def tell(share: float, words: str, number: int = number, name: str = name) -> None:
                progress(0.2 + 0.8 * (number + share) / len(configs), f"{name}, {words}")

            carry_out(config, folder / name, tell)

    def _flow(self, folder: Path, progress: Progress) -> tuple[FlowEnd, float]:
        """Where gradient flow ended, and at which time."""
        config = flow_of(self.base, (*ALONG_THE_FLOW, "time@end", *FREE_OF_SCALE))
        carry_out(replace(config, steps=FLOW_STEPS), folder, progress)
        with Record.open(folder) as record:
            if LEAST not in record.info:
                parts = Parts(self.base)
                objective = parts.objective(parts.samples, parts.mode, path="kept", threads=1)
                record.set_info(LEAST, float(top_eigenpairs(objective, k=1, which="smallest").values[0]))
            return FlowEnd.of(record), float(record.series("time")[1][-1])


def _folder(ratio: float) -> str:
    return f"x{ratio:g}"
