# %% [markdown]
# # Hysteresis of one's own network
#
# Weight decay is raised step by step and lowered again, each time from the last state. The network is lost in a jump
# and does not come back at decays at which it was trained before: its state depends on its history.

# %%
import polars as pl
import torch

import edgescope as es

torch.manual_seed(0)
x = torch.randn(60, 2, dtype=torch.float64)
targets = torch.stack([x[:, 0], 0.4 * x[:, 1]], 1)
model = es.MODELS.build("mlp:widths=4x4,bias=false").build((2,), 2, seed=0).double()
objective = es.Objective(model, es.supervised(es.losses.half_mse), (x, targets))

# %%
decays = [0.03 * 1.5**n for n in range(8)]
found = es.phases.scan(objective, decays, lr=0.2, steps=200, first=600, jitter=1e-4, refine=0)
ways = {"up": found.up["norm"], "down": found.down["norm"]}
table = pl.concat([pl.DataFrame({"way": way, "decay": found.decays, "order": norm}) for way, norm in ways.items()])
table = table.with_columns(panel=pl.lit("two layers of four tanh units"))
chart = es.figures.hysteresis_loops(table, y_title="norm of the weights", logarithmic=True)
print(f"Area of the loop over ln(decay): {found.area('norm'):.2f} times the range of the norm;", *found.jumps("norm"))
es.figures.Figure("hysteresis", "Hysteresis in weight decay", "Norm of the weights.", chart).save(".")
