# %% [markdown]
# # Warnings before a spike of the loss
#
# Adam at a large learning rate has spikes of the loss. A monitor with `spikes=True` warns when steps grow and the
# curvature along them is above the threshold, often some steps before.

# %%
import torch
import torch.nn.functional as F

import edgescope as es

data = es.DATA.build("digits:train=200").load()
model = es.MODELS.build("mlp:widths=32x32").build(data.input_shape, data.classes, seed=0)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
batch = data.inputs, data.targets
options = {"every": 1, "measures": ["loss", "update_norm"], "spikes": True}
monitor = es.watch(model, optimizer, F.cross_entropy, batch, **options)

# %%
for _ in range(600):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(data.inputs), data.targets)
    loss.backward()
    optimizer.step()
    monitor.step(loss=loss)

# %%
events = monitor.record.events()
for kind in ("warning", "spike"):
    print(f"{kind}s at steps", *events.filter(kind=kind)["step"])
monitor.plot("loss", "update_norm").combined("spikes", "Warnings before spikes").save(".")
