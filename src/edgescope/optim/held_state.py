"""The parameter groups and state of a live optimizer, as flat vectors over a list of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.shards import filled_like, whole

Group = dict[str, Any]


class HeldState(ABC):
    """What an ``optimizer`` keeps for ``tensors``, read anew at every call; :class:`UpdateRule` is made on it."""

    optimizer: torch.optim.Optimizer
    tensors: list[Tensor]

    @property
    @abstractmethod
    def held(self) -> list[bool]:
        """Which tensors are held by an optimizer; the others are constants of the training."""

    @abstractmethod
    def vectors(self) -> tuple[str, ...]:
        """The names of the state vectors that the optimizer keeps with its present options."""

    def keeps(self, group: Group, name: str) -> bool:
        """Whether the tensors of this parameter group have the state vector of that name, as others do."""
        return True

    def read(self, tensor: Tensor, name: str) -> Tensor | None:
        """The state vector of that name of one tensor, in the tensor's shape; None (zeros) where there is none yet."""
        found: Tensor | None = self._kept(tensor).get(name)
        return found

    def numbers(self, group: Group) -> dict[str, float]:
        """What tensors of this group keep besides vectors and ``"step"``: numbers, with values where none is kept.

        They are no directions of the dynamics: ``state`` has them, ``layout`` does not.
        """
        return {}

    @property
    def name(self) -> str:
        """The optimizer's own name, such as "AdamW"."""
        return type(self.optimizer).__name__

    def counts(self) -> tuple[str, ...]:
        """The names in ``state`` of what has one number a tensor: ``"step"`` and the ``numbers``."""
        return tuple(dict.fromkeys(("step", *(name for group in self.groups() for name in self.numbers(group)))))

    @property
    def others(self) -> int:
        """How many trainable tensors the optimizer holds that are not among ``tensors``."""
        own = {id(tensor) for tensor in self.tensors}
        members = (p for group in self.optimizer.param_groups for p in group["params"])
        return sum(p.requires_grad and id(p) not in own for p in members)

    def groups(self) -> list[Group]:
        """The parameter group of each tensor, live; InputError where the optimizer does not hold it."""
        by_id = {id(p): group for group in self.optimizer.param_groups for p in group["params"]}
        for i, tensor in enumerate(self.tensors):
            if id(tensor) not in by_id:
                raise InputError(
                    f"parameter {i} of the rule, of shape {tuple(tensor.shape)}, is not in the optimizer {self.name}",
                    hint="rule_for, which takes parameters that no optimizer holds as constants",
                )
        return [by_id[id(tensor)] for tensor in self.tensors]

    def option(self, name: str) -> Any:
        """An option on which all parameter groups agree; NotKnownError where they do not."""
        values = [group[name] for group, held in zip(self.groups(), self.held, strict=True) if held]
        if any(value != values[0] for value in values):
            distinct = ", ".join(dict.fromkeys(map(str, values)))
            raise NotKnownError(
                f"{self.name} has parameter groups with different {name} ({distinct})", expected="one value"
            )
        return values[0]

    def state(self) -> dict[str, Tensor]:
        """The optimizer's state now, as copies: flat vectors (P,), and ``counts`` (T,); zeros before the first step."""
        flat: dict[str, Tensor] = {}
        for name in self.vectors():
            found = [self.read(tensor, name) for tensor in self.tensors]
            flat[name] = torch.cat(
                [
                    filled_like(t, 0.0).flatten() if value is None else whole(value).to(t.dtype).flatten()
                    for t, value in zip(self.tensors, found, strict=True)
                ]
            )
        device = self.tensors[0].device if self.tensors else None
        for name in self.counts():
            values = [self.number(name, group, t) for group, t in zip(self.groups(), self.tensors, strict=True)]
            flat[name] = torch.tensor(values, dtype=torch.float64, device=device)
        return flat

    def number(self, name: str, group: Group, tensor: Tensor) -> float:
        """``"step"`` or one of the ``numbers`` of one tensor now."""
        kept = self._kept(tensor)
        value = kept.get(name, self.numbers(group).get(name))
        return float(bool(kept)) if value is None else float(value)

    def split(self, flat: Float[Tensor, " P"]) -> list[Tensor]:
        """A flat vector as one piece a tensor, each in the tensor's shape."""
        pieces = flat.split([t.numel() for t in self.tensors])
        return [piece.view(t.shape) for piece, t in zip(pieces, self.tensors, strict=True)]

    def _split_state(self, state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        counts = self.counts()
        columns = {name: list(v.unbind()) if name in counts else self.split(v) for name, v in state.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(self.tensors))]

    def _kept(self, tensor: Tensor) -> dict[str, Any]:
        # Not optimizer.state[tensor]: that would create an entry, and a measurement leaves everything as it was.
        return {name: value for name, value in self.optimizer.state.get(tensor, {}).items() if value is not None}
