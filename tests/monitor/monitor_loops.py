"""All training loops that monitors are tested in, by name."""

from __future__ import annotations

from loops_of_one_optimizer import LOOPS as OF_ONE
from loops_of_several_optimizers import LOOPS as OF_SEVERAL
from training_loops import Loop

LOOPS: dict[str, Loop] = OF_ONE | OF_SEVERAL
