# %% [markdown]
# # A ResNet with batch normalisation
#
# A small ResNet is trained on images of clothes by SGD with momentum, in mini-batches. The sharpness, with the
# statistics of each batch, stays far below the threshold, but some steps use all of the headroom on their batch.

# %%
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es


class Block(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


torch.manual_seed(0)
data = es.DATA.build("fashion-5k:train=512,pool=2").load()
model = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
block = Block(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
model.extend([block, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(8, 10)])
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
loader = DataLoader(TensorDataset(data.inputs, data.targets), batch_size=64, shuffle=True)
measures = ["loss", "ratio", "headroom:on=batch"]
monitor = es.watch(model, optimizer, F.cross_entropy, loader, every=5, measures=measures)

# %%
for x, y in (batch for _ in range(12) for batch in loader):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    monitor.step(batch=(x, y))
print(monitor.verdict())
plot = monitor.plot("loss", "ratio", "headroom/ratio/batch")
plot.combined("resnet_batch_norm", "A ResNet with batch normalisation").save(".")
