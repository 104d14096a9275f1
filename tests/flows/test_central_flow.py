"""The central flow against closed forms, and against the optimizers that it averages."""

from __future__ import annotations

import torch
from closed_forms import DRIVE, Network, valley, valleys

import edgescope as es


def covariance(step: es.flows.FlowStep) -> torch.Tensor:
    return step.basis @ step.covariance @ step.basis.T


def test_one_direction_oscillates_with_twice_the_drive() -> None:
    objective = valley(0.0, 19.9999, DRIVE)
    flow = es.CentralFlow(objective, torch.optim.SGD(objective.model.parameters(), lr=0.1))
    for _ in range(20):
        step = flow.step()
    assert abs(float(flow.weights[1]) - 20) < 1e-9
    assert torch.allclose(covariance(step), torch.diag(torch.tensor([2 * DRIVE, 0.0]).double()), atol=1e-10)
    assert abs(step.predicted_loss - (step.loss + 20 * DRIVE)) < 1e-12  # L + tr(H Sigma)/2
    assert abs(step.predicted_gradient_square - (DRIVE**2 + 400 * 2 * DRIVE)) < 1e-10  # ||g||^2 + tr(H^2 Sigma)
    assert step.time == 20


def test_gradient_descent_oscillates_as_the_flow_predicts() -> None:
    x, y, squares, steps = 0.01, 20.0, 0.0, 100_000
    for _ in range(steps):
        x, y = x - 0.1 * y * x, y - 0.1 * (0.5 * x * x - DRIVE)
        squares += x * x / steps
    assert abs(squares / (2 * DRIVE) - 1) < 0.01


def test_several_directions_oscillate_with_twice_the_drive() -> None:
    drive = torch.tensor([[2.0, 0.5, 0], [0.5, 1, -0.3], [0, -0.3, 0.7]], dtype=torch.float64) * 1e-4
    objective = valleys(19.9999 * torch.eye(3, dtype=torch.float64), drive)
    flow = es.CentralFlow(objective, torch.optim.SGD(objective.model.parameters(), lr=0.1))
    for _ in range(40):
        step = flow.step()
    assert step.covariance.shape == (3, 3)
    assert torch.allclose(covariance(step)[:3, :3], 2 * drive, atol=1e-9)
    assert torch.allclose(flow.weights[3:].view(3, 3), 20 * torch.eye(3).double(), atol=1e-6)


def test_momentum_shifts_the_threshold() -> None:
    objective = valley(0.0, 29.9999, DRIVE)
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.1, momentum=0.5)
    flow = es.CentralFlow(objective, optimizer, substeps=6)
    assert not flow.corrected
    for _ in range(20):
        step = flow.step()
    assert abs(float(flow.weights[1]) - 30) < 1e-9  # (2 + 2 beta)/lr
    assert abs(float(step.values[0]) - 2) < 1e-9
    assert abs(float(covariance(step)[0, 0]) - 2 * DRIVE) < 1e-10


def test_weight_decay_is_part_of_the_loss_that_descends() -> None:
    """With decay the drive is a - decay y, and the threshold that of y + decay."""
    decay = 1e-6
    objective = valley(0.0, 19.9998, DRIVE)
    flow = es.CentralFlow(objective, torch.optim.SGD(objective.model.parameters(), lr=0.1, weight_decay=decay))
    for _ in range(25):
        step = flow.step()
    y = float(flow.weights[1])
    variance = float(covariance(step)[0, 0])
    assert abs(y + decay - 20) < 1e-9
    assert abs(variance - 2 * (DRIVE - decay * y)) < 1e-10
    assert abs(step.predicted_loss - (step.loss + 0.5 * y * variance)) < 1e-12  # of the loss without decay
    assert abs(step.predicted_gradient_square - ((0.0 - DRIVE) ** 2 + y**2 * variance)) < 1e-9


def test_scalar_rmsprop_has_the_variance_of_its_closed_form() -> None:
    """One direction: variance [a + c(S^2/4 - g^2/lr^2)]/[b/2 + c S^2/lr^2] with a = -<g, grad S>, b = |grad S|^2."""
    lr, alpha, y = 0.01, 0.9, 1.0
    objective = valley(0.0, y, DRIVE)
    optimizer = es.optim.ScalarRMSProp(objective.model.parameters(), lr=lr, alpha=alpha, eps=0.0)
    for p in objective.model.parameters():  # v such that the sharpness y is at the threshold 2 sqrt(v)/lr
        optimizer.state[p]["square_avg"] = torch.tensor((lr * y / 2) ** 2 * (1 + 1e-6), dtype=torch.float64)
    flow = es.CentralFlow(objective, optimizer, substeps=16, correction=False)
    for _ in range(3):
        step = flow.step()
    sharpness, c = float(flow.weights[1]), (1 - alpha) / alpha
    wanted = (DRIVE + c * (sharpness**2 / 4 - DRIVE**2 / lr**2)) / (0.5 + c * sharpness**2 / lr**2)
    assert abs(float(step.values[0]) - 2) < 1e-4
    assert abs(float(covariance(step)[0, 0]) / wanted - 1) < 5e-3


def test_rmsprop_stays_at_the_threshold_of_its_own_preconditioner() -> None:
    model = Network()
    objective = model.objective()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.02, alpha=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        es.losses.half_mse(model(model.data[0]), model.data[1]).backward()
        optimizer.step()
    # at this state the sharpness is set to the threshold by the second moments
    pairs = es.top_eigenpairs(objective, metric=es.rule_for(optimizer, objective.tensors).metric())
    factor = (float(pairs.values[0]) * 0.02 / 2) ** 2
    for state in optimizer.state.values():
        state["square_avg"] *= factor
    flow = es.CentralFlow(objective, optimizer, correction=False, substeps=8)
    for _ in range(5):
        step = flow.step()
    metric = es.linalg.DiagonalMetric((flow.slow_state["square_avg"].sqrt() + 1e-8) / 0.02)
    exact = es.top_eigenpairs(objective.operator(flow.weights), k=2, metric=metric, tol=1e-6)
    assert step.covariance.shape[0] >= 1
    assert 1.99 < float(exact.values[0]) < 2.002
    gram = step.basis.T @ metric.root(metric.root(step.basis))
    assert torch.allclose(gram, torch.eye(len(gram)).double(), atol=1e-9)


def test_gradient_flow_below_the_threshold() -> None:
    """Where nothing oscillates it is gradient flow, whose small Euler steps gradient descent takes."""
    model = Network()
    objective = model.objective()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    flow = es.CentralFlow(objective, optimizer, correction=False, substeps=1)
    w = objective.parameters()
    for _ in range(3):
        step = flow.step()
        w = w - 1e-3 * objective.gradient(w)
    assert torch.equal(flow.weights, w)
    assert step.covariance.shape == (0, 0)
    assert step.loss == step.predicted_loss == float(objective.loss(w))


def test_the_correction_is_second_order() -> None:
    """Descent is closer by a factor that grows as the learning rate falls."""
    model = Network()
    distances = []
    for correction in (False, True):
        objective = model.objective()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        flow = es.CentralFlow(objective, optimizer, correction=correction, substeps=4)
        w = objective.parameters()
        for _ in range(20):
            flow.step()
            w = w - 0.02 * objective.gradient(w)
        distances.append(float((flow.weights - w).norm()))
    assert distances[1] < distances[0] / 10


def test_groups_with_learning_rates_of_their_own() -> None:
    """The same as one group where the loss is written in scaled weights."""
    model = Network()
    objective = model.objective()
    first, second = list(model.layers[0].parameters()), list(model.layers[2].parameters())
    groups = [{"params": first, "lr": 0.02}, {"params": second, "lr": 0.0}]
    flow = es.CentralFlow(objective, torch.optim.SGD(groups, lr=0.1), correction=False, substeps=2)
    w, rates = objective.parameters(), torch.zeros(objective.size).double()
    rates[: sum(p.numel() for p in first)] = 0.02
    flow.step()
    for _ in range(2):
        w = w - 0.5 * rates * objective.gradient(w)
    assert torch.allclose(flow.weights, w, atol=1e-14)
