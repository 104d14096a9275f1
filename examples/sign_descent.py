# %% [markdown]
# # Sign descent and the sharpness in its norm
#
# Sign gradient descent is steepest descent in the largest-entry norm. The sharpness in that norm rises to its own
# threshold 2‖g‖/η, which falls with the gradient.

# %%
import edgescope as es

data = es.DATA.build("digits:train=100").load()
model = es.MODELS.build("mlp:widths=8").build(data.input_shape, data.classes, seed=0)
loss_fn = es.losses.half_mse
optimizer = es.optim.SteepestDescent(model.parameters(), lr=0.001, geometry="linf", normalized=True)
measures = ["loss", "ratio", "generalized_sharpness:certificate=0", "directional_smoothness"]
batch = data.inputs, data.targets
monitor = es.watch(model, optimizer, loss_fn, batch, every=5, measures=measures)

# %%
for _ in range(240):
    optimizer.zero_grad()
    loss_fn(model(data.inputs), data.targets).backward()
    optimizer.step()

# %%
print(monitor.verdict())
monitor.plot("loss", "ratio").combined("sign_descent", "Sign descent").save(".")
