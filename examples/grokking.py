# %% [markdown]
# # Grokking, watched live
#
# A network learns the product of two of thirty signs: it memorises 120 samples in some steps, and finds the rule in
# hundreds, while the sharpness falls. With `out=`, `edgescope board runs` shows the run while it is trained.

# %%
import torch
import torch.nn.functional as F

import edgescope as es

data = es.DATA.build("xor:dim=30,train=120,test=1000").load()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.3)
loss_fn = es.supervised(F.soft_margin_loss)
tests = {"test": es.Objective(model, loss_fn, (data.test_inputs, data.test_targets))}
options = {"every": 20, "measures": ["loss", "sharpness"], "out": "runs/grokking"}
monitor = es.watch(model, optimizer, loss_fn, (data.inputs, data.targets), evaluations=tests, **options)

# %%
for _ in range(1400):
    optimizer.zero_grad()
    loss_fn(model, (data.inputs, data.targets)).backward()
    optimizer.step()

# %%
right = (model(data.test_inputs) * data.test_targets > 0).float().mean()
steps, losses = monitor.record.series("loss", "test")
print(
    f"The test loss is highest at step {steps[losses.argmax()]}; at the end {right:.0%} of the test samples are right."
)
monitor.plot("loss", "sharpness").combined("grokking", "Grokking").save(".")
