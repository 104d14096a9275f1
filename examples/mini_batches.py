# %% [markdown]
# # Mini-batches
#
# SGD on mini-batches of 8 keeps the largest eigenvalue of the whole Hessian far below 2/η. What rises to 2/η is the
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
optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
measures = ["ratio", "batch_sharpness:count=30,fresh=true"]
monitor = es.watch(model, optimizer, loss_fn, (data.inputs, labels), every=150, measures=measures, batch_size=8)

# %%
for _ in range(3000):
    chosen = torch.randperm(96)[:8]
    optimizer.zero_grad()
    loss_fn(model, (data.inputs[chosen], labels[chosen])).backward()
    optimizer.step()

# %%
print(monitor.verdict())
names = {"ratio": "largest eigenvalue", "batch_sharpness": "batch sharpness"}
table = monitor.table().filter(
    ((pl.col("measure") == "ratio") & (pl.col("part") == "")) | (pl.col("part") == "ratio"),
)
table = table.select("step", "value", run=pl.col("measure").replace(names), panel=pl.lit("curvature over 2/η"))
es.figures.Figure("mini_batches", "Mini-batches", "", es.figures.edge_panels(table)).save(".")
