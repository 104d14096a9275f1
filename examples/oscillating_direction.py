# %% [markdown]
# # The loss along the direction that oscillates
#
# Gradient descent at the edge of stability jumps from one side of a valley to the other. The curve is the loss along
# the sharpest direction, and the dots are the places of six consecutive steps on it.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
model = es.MODELS.build("mlp:widths=32x32").build(data.input_shape, data.classes, seed=0)
objective = es.Objective(model, es.supervised(es.losses.half_mse), (data.inputs, data.targets))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

# %%
places = []
for _ in range(176):
    optimizer.zero_grad()
    es.losses.half_mse(model(data.inputs), data.targets).backward()
    optimizer.step()
    places.append(objective.parameters())

# %%
centre = (places[-6] + places[-5]) / 2
top = es.top_eigenpairs(objective, k=1).vectors[:, 0]
path = [float((place - centre) @ top) for place in places[-6:]]
rows = [
    [("step 176", s, float(objective.loss(centre + s * top))) for s in line]
    for line in ([n / 40 * max(path, key=abs) for n in range(-60, 61)], path)
]
chart = es.figures.profile_curves(*(pl.DataFrame(r, ["run", "x", "value"], orient="row") for r in rows))
print(f"Places along the sharpest direction at consecutive steps: {', '.join(f'{x:+.3f}' for x in path)}.")
es.figures.Figure("oscillating_direction", "The loss along the sharpest direction", "", chart).save(".")
