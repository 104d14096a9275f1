# %% [markdown]
# # The central flow beside the run
#
# At the edge of stability gradient descent oscillates, and its central flow is what it does on average. The loss on
# the flow is below that of the run; with the predicted size of the oscillation it is that of the run on average.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=100").load()
model = es.MODELS.build("mlp:widths=16x16").build(data.input_shape, data.classes, seed=0).double()
loss_fn, batch = es.supervised(es.losses.half_mse), (data.inputs.double(), data.targets)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
flow = es.CentralFlow(es.Objective(model, loss_fn, batch), optimizer)

# %%
rows = []
for _ in range(200):
    place = flow.step()
    optimizer.zero_grad()
    loss = loss_fn(model, batch)
    loss.backward()
    optimizer.step()
    losses = {"run": loss.item(), "central flow": place.loss, "central flow with oscillation": place.predicted_loss}
    rows += [(name, place.time, value) for name, value in losses.items()]

# %%
table = pl.DataFrame(rows, ["run", "step", "loss"], orient="row")
means = table.filter(pl.col("step") > 100).group_by("run", maintain_order=True).agg(pl.col("loss").mean())
print("Mean losses from step 100 on:", ", ".join(f"{name} {loss:.4f}" for name, loss in means.rows()))
es.figures.Figure("central_flow", "Central flow", "", es.figures.loss_curves(table)).save(".")
