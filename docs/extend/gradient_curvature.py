"""Add a measure: the curvature of the loss along its gradient, and its ratio to the largest eigenvalue."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

import edgescope as es
from edgescope.measures.sharpness import Sharpness


@dataclass
class GradientCurvature(es.Measure):
    """g'Hg / g'g; with ``relative=true`` also the part "relative", over the largest eigenvalue of the Hessian."""

    name: ClassVar[str] = "gradient_curvature"
    title: ClassVar[str] = "Curvature along the gradient"
    unit: ClassVar[str] = "loss / parameter²"
    source: ClassVar[str] = "definition"
    needs: ClassVar[str] = "products"  # of the Hessian with vectors: after these, loss and gradient are known too
    uses: ClassVar[tuple[str, ...]] = ("sharpness",)
    relative: bool = False
    sharpness: Sharpness = field(default_factory=Sharpness, init=False)

    def dependencies(self):
        return (self.sharpness,) if self.relative else ()

    def read(self, moment):
        gradient = moment.objective.gradient()
        squared = gradient @ gradient
        if squared == 0:
            return es.Reading(self.name, {}, note="the gradient is zero, and has no direction")
        curvature = float(gradient @ moment.objective.hvp(gradient) / squared)
        values = {"": curvature}
        if self.relative:
            values["relative"] = curvature / moment.get(self.sharpness).value  # the run's own sharpness, taken once
        return es.Reading(self.name, values)


es.MEASURES.add("gradient_curvature", GradientCurvature)

if __name__ == "__main__":
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    inputs, targets = torch.randn(200, 20), torch.randint(3, (200,))
    loss_fn = torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    objective = es.Objective(model, es.supervised(loss_fn), (inputs, targets))

    alone = es.measure(objective, "gradient_curvature")
    print(alone.value, alone.cost)

    measures = ["sharpness", "gradient_curvature:relative=true"]
    monitor = es.Monitor(objective, optimizer, every=5, measures=measures)
    for _ in range(20):
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
        monitor.step()
    print(monitor.record.wide("sharpness", "gradient_curvature"))
    assert monitor.value("gradient_curvature", "relative") <= 1.01
    monitor.close()
