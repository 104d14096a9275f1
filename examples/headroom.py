# %% [markdown]
# # The headroom of a step
#
# The change of the loss along the last step of three optimizers, over the descent to first order. The place where it
# returns to 0 is the headroom: at 1 times the step a run is at the edge of stability, whatever the optimizer.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
loss_fn = es.supervised(es.losses.half_mse)
optimizers = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.5),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.02),
    "Lion": lambda weights: es.optim.Lion(weights, lr=0.001),
}
rows, words = [], []
for name, make in optimizers.items():
    model = es.MODELS.build("mlp:widths=32x32").build(data.input_shape, data.classes, seed=0)
    objective, optimizer = es.Objective(model, loss_fn, (data.inputs, data.targets)), make(model.parameters())
    for _ in range(180):
        w = objective.parameters()
        optimizer.zero_grad()
        loss_fn(model, (data.inputs, data.targets)).backward()
        optimizer.step()
    d, before = objective.parameters() - w, objective.loss(w)
    found = es.headroom(objective, w, d)
    words.append(f"{name} {found.value:.2f}")
    for s in (found.value * n / 40 for n in range(49)):
        rows.append((words[-1], s, float(objective.loss(w + s * d) - before) / found.descent))

print(f"Multiples of the step at which the loss is what it was before: {', '.join(words)}.")
table, edge = pl.DataFrame(rows, ["run", "x", "value"], orient="row"), pl.DataFrame({"x": [1.0], "name": "the step"})
chart = es.figures.profile_curves(table, marks=edge, x_title="multiple of the step", y_title="loss change / descent")
es.figures.Figure("headroom", "The loss along a step", "", chart).save(".")
