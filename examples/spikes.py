# %% [markdown]
# # Warnings before a spike of the loss
#
# Adam at a large learning rate has spikes of the loss. A monitor with `spikes=True` warns where steps grow and the
# curvature along them is above the threshold: here within a step of five of the six spikes.

# %%
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
model = es.MODELS.build("mlp:widths=32x32").build(data.input_shape, data.classes, seed=0)
loss_fn, batch = es.losses.half_mse, (data.inputs, data.targets)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
measures = ["training_loss", "update_norm"]
monitor = es.watch(model, optimizer, loss_fn, batch, every=1, measures=measures, spikes=True)

# %%
for _ in range(600):
    optimizer.zero_grad()
    loss = loss_fn(model(data.inputs), data.targets)
    loss.backward()
    optimizer.step()
    monitor.step(loss=loss)

# %%
readings = monitor.table()
losses = readings.filter(measure="training_loss")
norms = readings.filter(measure="update_norm", part="over_median")
events = {kind: monitor.record.events().filter(kind=kind)["step"].to_list() for kind in ("warning", "spike")}
print(f"Warnings at the steps {events['warning']}, spikes at {events['spike']}.")
chart = es.figures.spike_panels(losses, norms, warnings=events["warning"], spikes=events["spike"], cutoff=1.5)
es.figures.Figure("spikes", "Warnings before spikes", "", chart).save(".")
