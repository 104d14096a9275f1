# %% [markdown]
# # A physics-informed network
#
# A network learns u'' = -sin x with u(0) = u(π) = 0 from the equation alone; its loss has derivatives by x in it. In
# the metric of Adam its sharpness rises by more than a factor of ten, to the threshold.

# %%
import math

import torch
from torch import nn

import edgescope as es

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)).double()
inside = torch.linspace(0, math.pi, 40, dtype=torch.float64)[:, None]


def loss_fn(model, x):
    x = x.requires_grad_()
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return (bend + torch.sin(x)).square().mean() + u[[0, -1]].square().mean()


optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
monitor = es.watch(model, optimizer, loss_fn, inside, every=5)

# %%
for _ in range(250):
    optimizer.zero_grad()
    loss_fn(model, inside).backward()
    optimizer.step()

# %%
print(f"Largest error of u: {(model(inside) - torch.sin(inside)).abs().max():.3f}.", monitor.verdict())
monitor.plot("loss", "effective_sharpness", "threshold").combined("pinn", "A physics-informed network").save(".")
