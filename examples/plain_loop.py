# %% [markdown]
# # A plain training loop
#
# One line, `es.watch`, measures a training loop as it is. The largest eigenvalue of the Hessian rises to 2/η, above
# which gradient descent with learning rate η is unstable, and stays there while the loss falls.

# %%
import torch

import edgescope as es

torch.manual_seed(0)
data = es.DATA.build("digits:train=200").load()
x, y = data.inputs.flatten(1), data.targets
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh())
model.append(torch.nn.Linear(32, 10))
loss_fn = es.losses.half_mse
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
monitor = es.watch(model, optimizer, loss_fn, (x, y), every=5)

# %%
for _ in range(400):
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    optimizer.step()

# %%
print(monitor.verdict())
monitor.plot("loss", "sharpness").combined("plain_loop", "A plain training loop").save(".")
