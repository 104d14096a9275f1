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
model = es.MODELS.build("mlp:widths=16x16,gain=0.7").build(data.input_shape, data.classes, seed=0).double()
loss_fn, batch = es.supervised(es.losses.half_mse), (data.inputs.double(), data.targets)
optimizer = torch.optim.SGD(model.parameters(), lr=0.8)
flow = es.CentralFlow(es.Objective(model, loss_fn, batch), optimizer)

# %%
rows = []
for _ in range(160):
    optimizer.zero_grad()
    loss_fn(model, batch).backward()
    optimizer.step()
    place = flow.step()
    losses = {
        "run": loss_fn(model, batch).item(),
        "central flow": place.loss,
        "central flow with oscillation": place.predicted_loss,
    }
    rows += [(name, place.time, value) for name, value in losses.items()]

# %%
table = pl.DataFrame(rows, ["run", "step", "loss"], orient="row")
means = table.filter(pl.col("step") > 80).group_by("run", maintain_order=True).agg(pl.col("loss").mean())
print("Mean losses from step 80 on:", ", ".join(f"{name} {loss:.4f}" for name, loss in means.rows()))
es.figures.Figure("central_flow", "Central flow", "", es.figures.loss_curves(table)).save(".")
