# %% [markdown]
# # The spectrum before and after training
#
# The density of all eigenvalues of the Hessian, by Lanczos quadrature, at initialisation and after training. Most
# stay near 0; negative ones disappear, and the largest have reached the threshold 2/η.

# %%
import polars as pl
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
model = es.MODELS.build("mlp:widths=32").build(data.input_shape, data.classes, seed=0)
loss_fn = es.losses.half_mse
objective = es.Objective(model, es.supervised(loss_fn), (data.inputs, data.targets))
optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
before = es.spectrum(objective, method="slq", probes=4, steps=50)

# %%
for _ in range(300):
    optimizer.zero_grad()
    loss_fn(model(data.inputs), data.targets).backward()
    optimizer.step()
after = es.spectrum(objective, method="slq", probes=4, steps=50)

# %%
moments = {"before training": before, "after 300 steps": after}
tables = [pl.DataFrame({"moment": name, "node": s.nodes, "weight": s.weights}) for name, s in moments.items()]
chart = es.figures.spectral_density(pl.concat(tables), threshold=2 / 0.4)
print(f"Trace {before.trace:.1f} before and {after.trace:.1f} after training, of {objective.size} eigenvalues.")
caption = "Density of the eigenvalues of the Hessian, and the threshold 2/η."
es.figures.Figure("spectrum", "The spectrum before and after training", caption, chart).save(".")
