# %% [markdown]
# # The loss along the direction that oscillates
#
# Gradient descent at the edge of stability jumps from one side of a valley to the other. The curves are the loss along the
# sharpest direction at four steps, and the dots where the next six steps are on it.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
model = es.MODELS.build("mlp:widths=32x32").build(data.input_shape, data.classes, seed=0)
objective = es.Objective(model, es.supervised(es.losses.half_mse), (data.inputs, data.targets))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)


def steps(count):
    for _ in range(count):
        optimizer.zero_grad()
        es.losses.half_mse(model(data.inputs), data.targets).backward()
        optimizer.step()


# %%
curves, dots, crossed = [], [], 0
for moment in (180, 240):
    steps(moment - crossed)
    crossed = moment + 6
    w, top = objective.parameters(), es.top_eigenpairs(objective, k=1).vectors[:, 0]
    curves += [(f"step {moment}", s / 50, float(objective.loss(w + s / 50 * top))) for s in range(-25, 26)]
    for _ in range(6):
        dots.append((f"step {moment}", float((objective.parameters() - w) @ top), float(objective.loss())))
        steps(1)
columns = ["run", "x", "value"]
chart = es.figures.profile_curves(*(pl.DataFrame(rows, columns, orient="row") for rows in (curves, dots)))
print(f"The sides of the valley at step {moment}: {', '.join(f'{x:+.3f}' for _, x, _ in dots[-6:])}.")
es.figures.Figure("oscillating_direction", "The loss along the sharpest direction", "", chart).save(".")
