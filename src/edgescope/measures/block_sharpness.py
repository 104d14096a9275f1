"""How sharp each part of the model is, and in which part the direction lies that limits the learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.linalg.blocks import LEAST_PROBES, block_eigenvalues, block_traces
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.blocks import Globs, blocks_named, check_globs
from edgescope.measures.effective_sharpness import EffectiveSharpness
from edgescope.measures.optimizer_geometry import is_of_geometry
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.measures.sharpness import SHARES, Sharpness
from edgescope.objective.layout import Layout
from edgescope.options import check_fields, integer, real

PRODUCTS: Final = 8
"""Products that the largest eigenvalue of a block takes along a run, from the eigenvector before."""

UNKNOWN_BLOCKS: Final = 8
"""Blocks that a plan counts with where the parameters' names are not known yet."""


@dataclass
class BlockSharpness(Measure):
    """The largest eigenvalue and the trace of the Hessian's diagonal block of each part of the model.

    ``blocks`` are globs over the names of parameters, as text separated by ";": ``"block_sharpness:blocks=*.weight;
    *.bias"``. A parameter belongs to the first that matches, and those that none matches to the block "rest". Without
    globs each module with parameters of its own is a block.

    Parts: "top/BLOCK" is the largest eigenvalue with an estimated bound of its error; none is above the largest
    eigenvalue of the whole Hessian. "trace/BLOCK" is the trace with its standard error, from ``num_matvecs`` probes,
    drawn from ``seed``, which all blocks share. "mass/BLOCK" is the share of the limiting direction in the block, in
    the optimizer's metric: of the eigenvector of the effective sharpness, or of the sharpness without an optimizer.
    These add up to 1, and are left out where no such direction is known; the note says why.

    Cost: ``num_matvecs`` products for all traces (30), some 5 to 30 for the largest eigenvalue of each block at first
    and some 8 then, and those of ``effective_sharpness`` where the run does not measure that itself.
    """

    blocks: Globs = ()
    num_matvecs: int = 30
    tol: float = 1e-2
    seed: int = 0
    _vector: Tensor | None = field(default=None, init=False, repr=False)
    _raw: Sharpness = field(default_factory=Sharpness, init=False, repr=False)
    _effective: EffectiveSharpness = field(default_factory=EffectiveSharpness, init=False, repr=False)

    name: ClassVar[str] = "block_sharpness"
    title: ClassVar[str] = "Sharpness of each part of the model"
    unit: ClassVar[str] = "loss / parameter² (mass: 1)"
    source: ClassVar[str] = "Wang et al. 2025 (arXiv 2502.19002); masked Lanczos and shared probes: definition"
    needs: ClassVar[Needs] = "products"
    uses: ClassVar[tuple[str, ...]] = ("sharpness", "generalized_sharpness", "effective_sharpness")
    needs_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        owner = f"measure '{self.name}'"
        check_fields(self, owner, blocks=check_globs, num_matvecs=integer(LEAST_PROBES), tol=real(above=0, below=1))

    def check_problem(self, size: ProblemSize) -> None:
        size.require_vectors(f"measure '{self.name}'", 40, "a smaller model")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(products=self.num_matvecs + PRODUCTS * (len(self.blocks) + 1 if self.blocks else UNKNOWN_BLOCKS))

    def dependencies(self) -> tuple[Measure, ...]:
        return self._raw, self._effective, *self._effective.dependencies()

    def read(self, moment: Moment) -> Reading:
        objective = moment.objective
        blocks = blocks_named(objective.layout, self.blocks, f"measure '{self.name}'")
        before = self._vector if self._vector is not None and self._vector.numel() == objective.size else None
        tops = block_eigenvalues(objective, blocks, tol=self.tol, start=before, seed=self.seed)
        self._vector = tops.vector
        traces = block_traces(objective, blocks, num_matvecs=self.num_matvecs, seed=self.seed)
        missed = [name for name, converged in tops.converged.items() if not converged]
        mass, why = self._mass(moment, blocks)
        return Reading(
            self.name,
            _parts("top", tops.values) | _parts("trace", traces.values) | _parts("mass", mass),
            _parts("top", tops.error) | _parts("trace", traces.error),
            note="; ".join(filter(None, (f"not converged: {', '.join(missed)}" if missed else "", why))),
        )

    def _mass(self, moment: Moment, blocks: dict[str, list[slice]]) -> tuple[dict[str, float], str]:
        """The shares of the limiting direction, or why there are none."""
        plain = moment.optimizer is None and not moment.optimizers
        found = moment.get(self._raw if plain else self._effective)
        if not plain and found.values and SHARES not in found.arrays and not is_of_geometry(moment.known_rule()):
            found = moment.get(self._raw)  # from which it follows
        shares = found.arrays.get(SHARES)
        if shares is None:
            return {}, f"no limiting direction: {found.note or 'the threshold is not one of an eigenvalue'}"
        return _of_blocks(torch.from_numpy(shares), moment.objective.layout, blocks), ""

    def state(self) -> dict[str, Any]:
        return {"vector": self._vector, "raw": self._raw.state(), "effective": self._effective.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._vector = state["vector"]
        self._raw.load_state(state["raw"])
        self._effective.load_state(state["effective"])


def _parts(kind: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{kind}/{name}": value for name, value in values.items()}


def _of_blocks(shares: Float[Tensor, " tensors"], layout: Layout, blocks: dict[str, list[slice]]) -> dict[str, float]:
    """The shares of tensors, added up for each block."""
    of_tensor = {
        slot.slice.start: float(share) for slot, share in zip(layout, shares, strict=True) if slot.shape.numel()
    }
    return {name: sum(of_tensor[place.start] for place in own) for name, own in blocks.items()}
