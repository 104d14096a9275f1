"""A rule whose preconditioner stays what it is in the next step, so that its update is linear."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from edgescope.optim import UpdateJacobian
from edgescope.optim import muon as muon_file
from edgescope.optim.rule import UpdateRule


def freeze(rule: UpdateRule, gradient: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the preconditioner of the next step at ``gradient`` fixed, whatever the state becomes."""
    w = torch.cat([t.detach().flatten() for t in rule.tensors])
    state = rule.update(w, rule.state(), gradient)[1]
    table = {}
    for i, (group, t, g) in enumerate(zip(rule.groups(), rule.tensors, rule.split(gradient), strict=True)):
        pieces = {k: v[i] if k == "step" else rule.split(v)[i] for k, v in state.items()}
        if isinstance(rule, muon_file.MuonRule):
            table[id(group)] = rule.preconditioner(group, pieces, g) * muon_file._rate_factor(group, t)
        else:
            table[id(group)] = rule.preconditioner(group, pieces)
    if isinstance(rule, muon_file.MuonRule):

        def linear(group: dict[str, Any], u: Tensor) -> Tensor:
            inverse = torch.linalg.inv(table[id(group)])
            return inverse @ u if u.shape[0] <= u.shape[1] else u @ inverse

        monkeypatch.setattr(muon_file, "newton_schulz", linear)
    else:
        monkeypatch.setattr(rule, "preconditioner", lambda group, *_: table[id(group)])


def without_squares(jacobian: UpdateJacobian, rule: UpdateRule) -> Tensor:
    """The dense Jacobian over parameters and momentum buffers, without what a frozen preconditioner is made of."""
    sizes = [t.numel() for t in rule.tensors]
    rows, start = [], 0
    for name in jacobian.names:
        stop = start + sum(size for size, here in zip(sizes, rule.layout()[name], strict=True) if here)
        if name in ("parameters", "momentum_buffer", "exp_avg"):
            rows.append(torch.arange(start, stop))
        start = stop
    kept = torch.cat(rows)
    return (jacobian @ torch.eye(jacobian.size, dtype=torch.float64))[kept][:, kept]
