# %% [markdown]
# # A ResNet with batch normalisation
#
# A small ResNet is trained on images of clothes by SGD with momentum, in mini-batches. The sharpness is that of the
# function that is trained, with the statistics of each batch, and the threshold is 2(1 + β)/η.

# %%
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es

torch.manual_seed(0)
data = es.DATA.build("fashion-5k:train=512,pool=2").load()


class Block(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


model = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
model.append(Block(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()))
model.extend([nn.AvgPool2d(7), nn.Flatten(), nn.Linear(8, 10)])
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
loader = DataLoader(TensorDataset(data.inputs, data.targets), batch_size=64, shuffle=True)
monitor = es.watch(model, optimizer, F.cross_entropy, loader, every=5, measures=["loss", "sharpness", "ratio"])

# %%
for x, y in (batch for _ in range(15) for batch in loader):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
print(monitor.description, monitor.verdict(), sep="\n")
monitor.plot().combined("resnet_batch_norm", "A ResNet with batch normalisation").save(".")
