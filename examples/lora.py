# %% [markdown]
# # LoRA
#
# A network trained on half of the digits is adapted to the other half by updates of rank 2 to its frozen weights. At
# the learning rate at which all weights stay far below the edge of stability, the adapters reach it.

# %%
from torch import nn, optim
from torch.nn.functional import cross_entropy

import edgescope as es


class LowRank(nn.Sequential):
    def forward(self, weight):
        return weight + self[1].weight @ self[0].weight


def train(x, y):
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.4)
    with es.watch(model, optimizer, cross_entropy, (x, y), every=5) as monitor:
        for _ in range(150):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    return monitor


data = es.DATA.build("digits:train=400").load()
x, y, low = data.inputs, data.targets, data.targets < 5
model = es.MODELS.build("mlp:widths=32").build(data.input_shape, data.classes, seed=0)
runs = {"all weights, digits 0 to 4": train(x[low], y[low])}
for layer in (model[1].requires_grad_(False), model[3].requires_grad_(False)):
    update = LowRank(nn.Linear(layer.in_features, 2, bias=False), nn.Linear(2, layer.out_features, bias=False))
    nn.init.zeros_(update[1].weight)
    nn.utils.parametrize.register_parametrization(layer, "weight", update)
runs["LoRA, digits 5 to 9"] = train(x[~low], y[~low])
print(runs["LoRA, digits 5 to 9"].verdict())
es.report.plot_runs(runs, "loss", "ratio").combined("lora", "LoRA").save(".")
