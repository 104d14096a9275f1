# %% [markdown]
# # Hysteresis of one's own network
#
# Weight decay is raised step by step and lowered again, each time from the last state. The network is lost in a jump and
# comes back only at a much smaller decay, so that its state depends on its history.

# %%
import polars as pl
import torch

import edgescope as es

torch.manual_seed(0)
x = torch.randn(60, 2, dtype=torch.float64)
targets = torch.stack([x[:, 0], 0.4 * x[:, 1]], 1)
layers = (torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
objective = es.Objective(torch.nn.Sequential(*layers).double(), es.supervised(es.losses.half_mse), (x, targets))

# %%
decays = [0.02 * 1.5**n for n in range(9)]
found = es.phases.scan(objective, decays, lr=0.1, steps=300, jitter=1e-3, refine=1)
rows = [
    ("norm of the weights", way, decay, norm)
    for way in ("up", "down")
    for decay, norm in zip(found.decays, getattr(found, way)["norm"])
]
table = pl.DataFrame(rows, ["panel", "way", "decay", "order"], orient="row")
chart = es.figures.hysteresis_loops(table, y_title="norm", logarithmic=True)
print(*found.jumps("norm"), f"area of the loop: {found.area('norm'):.2f}", sep="\n")
es.figures.Figure("hysteresis", "Hysteresis in weight decay", "Norm of the weights.", chart).save(".")
