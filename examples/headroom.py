# %% [markdown]
# # The headroom of a step
#
# The loss along the next step of three optimizers, in multiples of the step. Where it first exceeds the loss at the start
# is the headroom: at 1 the step is at the edge of stability, whatever the optimizer.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
loss_fn = es.supervised(es.losses.half_mse)
optimizers = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.45),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.003),
    "Lion": lambda weights: es.optim.Lion(weights, lr=0.0005),
}
rows = []
for name, make in optimizers.items():
    model = es.MODELS.build("mlp:widths=32x32").build(data.input_shape, data.classes, seed=0)
    objective, optimizer = es.Objective(model, loss_fn, (data.inputs, data.targets)), make(model.parameters())
    for _ in range(100):
        w = objective.parameters()
        optimizer.zero_grad()
        loss_fn(model, (data.inputs, data.targets)).backward()
        optimizer.step()
    d = objective.parameters() - w
    found = es.headroom(objective, w, d)
    before = float(objective.loss(w))
    print(f"{name}: the step could be {found.value:.2f} times as long before it raises the loss.")
    rows += [(f"{name} ({found.value:.1f})", s / 10, float(objective.loss(w + s / 10 * d)) / before) for s in range(81)]

table, edge = pl.DataFrame(rows, ["run", "x", "value"], orient="row"), pl.DataFrame({"x": [1.0], "name": "the step"})
titles = {"x_title": "multiple of the step", "y_title": "loss / loss before the step"}
chart = es.figures.profile_curves(table, marks=edge, **titles)
es.figures.Figure("headroom", "The loss along a step", "The headroom is in brackets.", chart).save(".")
