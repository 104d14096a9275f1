# %% [markdown]
# # Which layer limits the learning rate
#
# The largest eigenvalue of the Hessian's block of each layer, over the steps of training. The layer with the darkest row
# is the sharpest; `mass` in the record has the share of each layer in the direction that limits the learning rate.

# %%
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
model = es.MODELS.build("mlp:widths=32x32x32").build(data.input_shape, data.classes, seed=0)
loss_fn = es.losses.half_mse
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
batch = data.inputs, data.targets
monitor = es.watch(model, optimizer, loss_fn, batch, every=10, measures=["loss", "ratio", "block_sharpness"])

# %%
for _ in range(250):
    optimizer.zero_grad()
    loss_fn(model(data.inputs), data.targets).backward()
    optimizer.step()

# %%
shares = {part[5:]: value for part, value in monitor.latest["block_sharpness"].values.items() if part[:5] == "mass/"}
layer = max(shares, key=shares.get)
print(f"Layer {layer} has {shares[layer]:.0%} of the direction that limits the learning rate.")
monitor.plot("block_sharpness").combined("block_sharpness", "Sharpness of each layer").save(".")
