# %% [markdown]
# # Which layer limits the learning rate
#
# The share of each layer in the direction that limits the learning rate, over the steps of training, and below it the
# largest eigenvalue of the layer's own block of the Hessian. The last layer limits the first steps.

# %%
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
sizes = {"first": (64, 32), "second": (32, 32), "third": (32, 32), "head": (32, 10)}
torch.manual_seed(0)
model = torch.nn.Sequential()
for name, size in sizes.items():
    model.add_module(name, torch.nn.Linear(*size))
    if name != "head":
        model.add_module(f"tanh of {name}", torch.nn.Tanh())
loss_fn = es.losses.half_mse
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
batch = data.inputs.flatten(1), data.targets
monitor = es.watch(model, optimizer, loss_fn, batch, every=10, measures=["block_sharpness"])

# %%
for _ in range(250):
    optimizer.zero_grad()
    loss_fn(model(batch[0]), batch[1]).backward()
    optimizer.step()

# %%
shares = [f"{name} {monitor.value('block_sharpness', f'mass/{name}'):.0%}" for name in sizes]
print(f"Shares in the direction that limits the learning rate: {', '.join(shares)}.")
plot = monitor.plot("block_sharpness/mass", "block_sharpness/top")
plot.combined("block_sharpness", "Which layer limits the learning rate").save(".")
