"""Add a norm: the l_p norm of all parameters, with its exponent as an option ("lp:p=4")."""

from dataclasses import dataclass

import torch

import edgescope as es
from edgescope.geometry import GEOMETRIES, Geometry


@dataclass(frozen=True)
class Lp(Geometry):
    """(sum |d_i|^p)^(1/p) with p > 1. The dual norm is that of the exponent q with 1/p + 1/q = 1."""

    p: float = 4.0

    @property
    def q(self):
        return self.p / (self.p - 1)

    def norm(self, vectors):  # (P,) or (P, k), one vector a column
        return torch.linalg.vector_norm(vectors, self.p, dim=0)

    def dual_norm(self, gradients):
        return torch.linalg.vector_norm(gradients, self.q, dim=0)

    def steepest(self, gradients):  # the d with norm 1 and <gradient, d> = dual norm; 0 for a zero gradient
        length = self.dual_norm(gradients)
        scaled = gradients / torch.where(length == 0, 1.0, length)
        return scaled.sign() * scaled.abs() ** (self.q - 1)

    def squared_radius(self, size):  # the largest Euclidean length in the unit ball, squared
        return max(1.0, float(size) ** (1 - 2 / self.p))


GEOMETRIES.add("lp", Lp)

if __name__ == "__main__":
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    inputs, targets = torch.randn(50, 4).double(), torch.randint(3, (50,))
    loss_fn = torch.nn.functional.cross_entropy
    objective = es.Objective(model, es.supervised(loss_fn), (inputs, targets))

    # The three methods belong to one norm.
    geometry, gradient = GEOMETRIES.build("lp:p=4"), objective.gradient()
    direction = geometry.steepest(gradient)
    torch.testing.assert_close(gradient @ direction, geometry.dual_norm(gradient))
    torch.testing.assert_close(geometry.norm(direction), torch.ones((), dtype=torch.float64))

    # An optimizer, a threshold and measures in this norm, by its name.
    optimizer = es.optim.SteepestDescent(model.parameters(), lr=0.01, geometry="lp:p=4")
    print(es.rule_for(optimizer, objective.tensors).threshold().formula)  # 2/η
    monitor = es.Monitor(objective, optimizer, every=5, measures=["loss", "generalized_sharpness", "ratio"])
    for _ in range(20):
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
        monitor.step()
    print(monitor.record.wide("loss", "generalized_sharpness", "ratio"))
    monitor.close()
