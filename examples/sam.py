# %% [markdown]
# # Sharpness-aware minimization
#
# The same network is trained by gradient descent and by SAM. SAM has an edge of its own below 2/η, so that it settles
# at a smaller sharpness; over its own threshold the effective sharpness is 1 in both.

# %%
import torch

import edgescope as es

data = es.DATA.build("digits:train=200").load()
x, y = data.inputs, data.targets
loss_fn = es.losses.half_mse


def train(make):
    model = es.MODELS.build("mlp:widths=32x32").build(data.input_shape, data.classes, seed=0)
    optimizer = make(model.parameters())
    monitor = es.watch(model, optimizer, loss_fn, (x, y), every=5)

    def gradient():
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss

    for _ in range(200):
        optimizer.step(gradient)
    return monitor


runs = {
    "gradient descent": train(lambda weights: torch.optim.SGD(weights, lr=0.5)),
    "SAM, ρ = 0.05": train(lambda weights: es.optim.SAM(weights, torch.optim.SGD, lr=0.5, rho=0.05)),
}
ends = [f"{name} {monitor.value('sharpness'):.1f}" for name, monitor in runs.items()]
print("Sharpness at the end:", ", ".join(ends))
es.report.plot_runs(runs, "sharpness", "ratio").combined("sam", "Sharpness-aware minimization").save(".")
