# %% [markdown]
# # Sharpness dimension and the generalization gap
#
# Small networks are trained at several learning rates and batch sizes. For each there is the sharpness dimension, in how
# many directions a step of training does not shrink volumes, and the gap between test and training loss.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=120,test=300,pool=2").load()
loss_fn = es.supervised(torch.nn.functional.cross_entropy)


def end_of(lr, size):
    model = es.MODELS.build("mlp:widths=8").build(data.input_shape, data.classes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    train = es.Objective(model, loss_fn, (data.inputs, data.targets), dtype=torch.float64)
    torch.manual_seed(0)
    for _ in range(300):
        chosen = torch.randperm(120)[:size]
        optimizer.zero_grad()
        loss_fn(model, (data.inputs[chosen], data.targets[chosen])).backward()
        optimizer.step()
    found = es.sharpness_dimension(es.spectrum(train, method="exact"), lr=lr)
    gap = float(loss_fn(model, (data.test_inputs, data.test_targets))) - float(train.loss())
    return {
        "measure": "sharpness dimension",
        "value": found.dimension,
        "target": gap,
        "learning rate": lr,
        "batch": size,
    }


# %%
table = pl.DataFrame([end_of(lr, size) for lr in (0.05, 0.1, 0.2, 0.4) for size in (10, 30, 120)])
tau = es.statistics.kendall(table["value"], table["target"])
print(f"Kendall's τ with the gap: {tau.value:.2f}, from {tau.low:.2f} to {tau.high:.2f}.")
chart = es.figures.scatter_panels(table, y_title="test loss less training loss")
es.figures.Figure("sharpness_dimension", "Dimension and generalization gap", "", chart).save(".")
