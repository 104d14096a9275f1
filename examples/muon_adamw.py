# %% [markdown]
# # Muon beside AdamW
#
# One model is stepped by two optimizers, matrices by Muon and biases by AdamW, and a second one by AdamW alone. No
# eigenvalue decides for Muon, so the headroom is shown; at ratio 1 a step ends at the loss at which it began.

# %%
import torch

import edgescope as es

data = es.DATA.build("digits:train=300").load()
x, y = data.inputs.flatten(1), data.targets
loss_fn = es.losses.half_mse


def train(optimizers_of):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    optimizers = optimizers_of([p for p in model.parameters() if p.ndim == 2], [model[0].bias, model[2].bias])
    monitor = es.watch(model, optimizers, loss_fn, (x, y), every=5, measures=["loss", "headroom"])
    for _ in range(100):
        model.zero_grad()
        loss_fn(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
    return monitor


# %%
muon, adamw = torch.optim.Muon, torch.optim.AdamW
runs = {
    "Muon and AdamW": train(lambda matrices, biases: [muon(matrices, lr=0.1), adamw(biases, lr=0.01)]),
    "AdamW alone": train(lambda matrices, biases: [adamw(matrices + biases, lr=0.01)]),
}
for name, monitor in runs.items():
    print(f"{name}: loss {monitor.value('loss'):.2g}, ratio of the headroom {monitor.value('headroom', 'ratio'):.2f}")
es.report.plot_runs(runs, "loss", "headroom/ratio").combined("muon_adamw", "Muon beside AdamW").save(".")
