# %% [markdown]
# # An autoencoder
#
# Images of digits are squeezed through eight numbers and restored; inputs are the targets. The largest eigenvalue of
# the Hessian rises to the threshold 2/η and stays there, and the next ones follow.

# %%
import torch
from torch import nn

import edgescope as es

torch.manual_seed(0)
x = es.DATA.build("digits:train=200").load().inputs.flatten(1) / 3
model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 8), nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.25)


def loss_fn(model, images):
    return 0.5 * (model(images) - images).square().sum(1).mean()


measures = ["loss", "sharpness:k=4", "threshold", "effective_sharpness"]
monitor = es.watch(model, optimizer, loss_fn, x, every=5, measures=measures)

# %%
for _ in range(300):
    optimizer.zero_grad()
    loss_fn(model, x).backward()
    optimizer.step()

# %%
last = [f"{monitor.value('sharpness', str(k)):.1f}" for k in range(1, 5)]
print(f"Loss {monitor.value('loss'):.2f}, eigenvalues {', '.join(last)}, threshold {monitor.value('threshold'):.0f}")
monitor.plot("loss", "sharpness").combined("autoencoder", "An autoencoder").save(".")
