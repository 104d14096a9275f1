"""Training leaves the same bits behind with a monitor as without, whatever the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from disturbable_loops import DISTURBABLE
from monitor_loops import LOOPS
from monitor_runs import Run, noticed
from torch import Tensor

from edgescope.monitor.monitor import DEFAULT_MEASURES

MEASURES = (
    *DEFAULT_MEASURES,
    "directional_smoothness",
    "step_ratio",
    "gradient_noise",
    "headroom:shares=layers",
    "preconditioner_lag",
    "update_norm",
    "batch_sharpness:batch=4,count=3",
    "batch_ratio:batch=4,count=3",
    "training_loss@1",
    "spectrum@end",
)
EVERY_LOOP: dict[str, Callable[[Run], None]] = {**LOOPS, **DISTURBABLE}


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two structures of tensors and other things are not the same, bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        dense = [(t.to_dense() if t.is_sparse else t).detach() for t in (a, b)]
        same = a.dtype == b.dtype and a.requires_grad == b.requires_grad and torch.equal(*dense)
        return [] if same else [where]
    if type(a) is not type(b):
        return [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [where]
        return [found for key in a for found in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [where]
        pairs = enumerate(zip(a, b, strict=True))
        return [found for i, (x, y) in pairs for found in differences(x, y, f"{where}.{i}")]
    return [] if a == b else [where]


def left_by(loop: Callable[[Run], None], call: str | None) -> dict[str, Any]:
    """What a loop leaves; the run is measured where it has ended too, and the monitor closed."""
    run = Run(call, every=3, measures=MEASURES)
    with noticed():
        loop(run)
        if run.monitor is not None:
            assert run.monitor.steps == len(run.parameters) - 1
            run.monitor.finish(everything=True)
            failed = run.monitor.table().filter(measure="loss")["value"]
            assert failed.null_count() == 0, "it was really measured"
            run.monitor.close()
    found = run.left() | {"attributes": [sorted(vars(optimizer)) for optimizer in run.optimizers]}
    return found | {"generator": torch.get_rng_state()}


@pytest.mark.parametrize("name", EVERY_LOOP)
def test_training_leaves_the_same_bits_with_and_without_a_monitor(name: str) -> None:
    loop = EVERY_LOOP[name]
    plain = left_by(loop, None)
    for call in ("after", "never"):
        assert differences(plain, left_by(loop, call)) == []


def test_differences_are_found() -> None:
    one = {"a": [torch.zeros(2), 1.0], "b": None}
    assert differences(one, {"a": [torch.zeros(2), 1.0], "b": None}) == []
    assert differences(one, {"a": [torch.tensor([0.0, 1e-30]), 2.0], "b": None}) == [".a.0", ".a.1"]
    assert differences(one, {"a": [torch.zeros(2), 1.0], "b": torch.zeros(1)}) == [".b"]
