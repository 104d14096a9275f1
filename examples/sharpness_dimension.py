# %% [markdown]
# # Sharpness dimension and the generalization gap
#
# Small networks are trained at several learning rates and batch sizes, and their sharpness dimension is compared with
# the gap of the losses. Over all of them the correlation is negative, and at a given learning rate it is positive.

# %%
import polars as pl
import torch

import edgescope as es

data, loss_fn = es.DATA.build("digits:train=120,test=300,pool=2").load(), es.supervised(torch.nn.CrossEntropyLoss())


def end_of(lr, size):
    model = es.MODELS.build("mlp:widths=8").build(data.input_shape, data.classes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    torch.manual_seed(0)
    for _ in range(300):
        chosen = torch.randperm(120)[:size]
        optimizer.zero_grad()
        loss_fn(model, (data.inputs[chosen], data.targets[chosen])).backward()
        optimizer.step()
    train = es.Objective(model, loss_fn, (data.inputs, data.targets), dtype=torch.float64)
    test = es.Objective(model, loss_fn, (data.test_inputs, data.test_targets), dtype=torch.float64)
    found = es.sharpness_dimension(es.spectrum(train, method="exact"), lr=lr)
    return "sharpness dimension", found.dimension, float(test.loss() - train.loss()), lr, size


# %%
rows = [end_of(lr, size) for lr in (0.05, 0.1, 0.2, 0.4) for size in (10, 30, 120)]
table = pl.DataFrame(rows, ["measure", "value", "target", "learning rate", "batch"], orient="row")
dimension, gap, rates = (table[name].to_list() for name in ("value", "target", "learning rate"))
tau = es.statistics.kendall(dimension, gap).value
given = es.statistics.partial_rank_correlation(dimension, gap, {"learning rate": rates}).value
print(f"Rank correlation with the gap {tau:.2f}; given the learning rate {given:.2f}.")
chart = es.figures.scatter_panels(table, y_title="test loss less training loss")
es.figures.Figure("sharpness_dimension", "Dimension and generalization gap", "", chart).save(".")
