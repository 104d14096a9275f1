# %% [markdown]
# # Mini-batches
#
# SGD on mini-batches of 16 keeps the largest eigenvalue of the whole Hessian below 2/η. What settles near 2/η is the
# batch sharpness, the curvature of mini-batches along their own gradients.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=96").load()
model = es.MODELS.build("mlp:widths=16x16").build(data.input_shape, data.classes, seed=0)
torch.manual_seed(0)
labels = torch.randint(10, (96,))  # random ones, so that training goes on sharpening
loss_fn = es.supervised(es.losses.half_mse)
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
measures = ["ratio", "batch_sharpness:count=20,fresh=true"]
monitor = es.watch(model, optimizer, loss_fn, (data.inputs, labels), every=60, measures=measures, batch_size=16)

# %%
for step in range(3000):
    chosen = torch.randperm(96)[:16]
    optimizer.zero_grad()
    loss_fn(model, (data.inputs[chosen], labels[chosen])).backward()
    optimizer.step()

# %%
names = {"ratio": "largest eigenvalue", "batch_sharpness": "batch sharpness"}
parts = {"ratio": "", "batch_sharpness": "ratio"}
rows = [
    ("over 2/η", names[name], step, value)
    for name in names
    for step, value in zip(*monitor.record.series(name, parts[name]))
]
table = pl.DataFrame(rows, ["panel", "run", "step", "value"], orient="row")
chart = es.figures.edge_panels(table)
print(monitor.verdict())
es.figures.Figure("mini_batches", "Mini-batches", "Two curvatures over 2/η.", chart).save(".")
