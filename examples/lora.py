# %% [markdown]
# # LoRA
#
# A network trained on half of the classes of digits is adapted to the others by matrices of rank 2 beside its frozen
# layers. Only the parameters of the adapters count: their sharpness rises as they grow, and falls when the loss is small.

# %%
import torch
import torch.nn.functional as F
from torch import nn

import edgescope as es


class LoRA(nn.Module):
    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + x @ self.down.T @ self.up.T


def train(x, y):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.2)
    with es.watch(model, optimizer, F.cross_entropy, (x, y), every=5) as monitor:
        for _ in range(150):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return monitor


torch.manual_seed(0)
data = es.DATA.build("digits:train=400").load()
x, y, low = data.inputs.flatten(1), data.targets, data.targets < 5
model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
runs = {"all weights, digits 0 to 4": train(x[low], y[low])}
model[0], model[2] = LoRA(model[0]), LoRA(model[2])
runs["LoRA, digits 5 to 9"] = train(x[~low], y[~low])
print(runs["LoRA, digits 5 to 9"].verdict())
es.report.plot_runs(runs, "loss", "ratio").combined("lora", "LoRA").save(".")
