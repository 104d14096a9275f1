"""Add an optimizer and its update rule: quasi-hyperbolic momentum (Ma and Yarats 2019, arXiv 1810.06801)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

import edgescope as es
from edgescope.optim import OPTIMIZERS, UpdateRule, add_rule
from edgescope.optim.momentum import Momentum
from edgescope.optim.named import NamedOptimizer


class QHM(torch.optim.Optimizer):
    """b' = βb + (1-β)g, w' = w - η((1-ν)g + νb'): a mixture of plain gradient descent and momentum."""

    def __init__(self, params, lr, beta=0.9, nu=0.7):
        super().__init__(params, {"lr": lr, "beta": beta, "nu": nu})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                buffer = self.state[w].setdefault("average", torch.zeros_like(w))
                buffer.lerp_(w.grad, 1 - group["beta"])
                w -= group["lr"] * ((1 - group["nu"]) * w.grad + group["nu"] * buffer)
        return loss


class QHMRule(UpdateRule):
    """The same step without changing anything in place, and its threshold (2+2β)/((1+β-2νβ)η)."""

    kinds = (QHM,)

    def vectors(self):
        return ("average",)  # the state of the optimizer, by its own name

    def advance(self, group, w, state, gradient):  # one step of one tensor: the new tensor and its new state
        average = group["beta"] * state["average"] + (1 - group["beta"]) * gradient
        step = (1 - group["nu"]) * gradient + group["nu"] * average
        return w - group["lr"] * step, {"average": average}

    def momentum_of(self, group):  # how past gradients enter a step; the threshold follows from it
        beta, nu = group["beta"], group["nu"]
        return Momentum(beta, gain=1 - beta, direct=1 - nu, through=nu, divisor="(1+β-2νβ)")


add_rule(QHMRule)


@dataclass(frozen=True)
class NamedQHM(NamedOptimizer):
    """Quasi-hyperbolic momentum, for runs that name their optimizer: ``--optimizer qhm:nu=0.5``."""

    kind: ClassVar[type[torch.optim.Optimizer]] = QHM
    beta: float = 0.9
    nu: float = 0.7


OPTIMIZERS.add("qhm", NamedQHM)


def distance_after(curvature, steps=300):
    """Where 300 steps on the loss curvature/2 w² lead from w = 1."""
    w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = QHM([w], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        (curvature / 2 * w**2).sum().backward()
        optimizer.step()
    return abs(w.item())


if __name__ == "__main__":
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    inputs, targets = torch.randn(200, 20), torch.randint(3, (200,))
    loss_fn = torch.nn.functional.cross_entropy
    optimizer = QHM(model.parameters(), lr=0.1)
    objective = es.Objective(model, es.supervised(loss_fn), (inputs, targets))

    threshold = es.rule_for(optimizer, objective.tensors).threshold()
    print(threshold.value, threshold.formula)
    assert distance_after(0.98 * threshold.value) < 1e-2  # stable below the threshold
    assert distance_after(1.02 * threshold.value) > 1e2  # unstable above it

    # step_ratio compares each step that was taken with that of the rule: 1 where the rule is right.
    monitor = es.Monitor(objective, optimizer, every=5, measures=["sharpness", "threshold", "ratio", "step_ratio"])
    for _ in range(20):
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
        monitor.step()
    print(monitor.record.wide("sharpness", "threshold", "ratio", "step_ratio"))
    assert abs(monitor.value("step_ratio") - 1) < 1e-3
    monitor.close()
