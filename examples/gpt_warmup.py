# %% [markdown]
# # A small GPT with AdamW and warm-up
#
# A language model of two blocks learns the characters of a licence text by AdamW, with the learning rate warmed up
# over 40 steps. The threshold falls as the rate rises, and meets the effective sharpness as the warm-up ends.

# %%
import torch
import torch.nn.functional as F

import edgescope as es

torch.manual_seed(0)
data = es.DATA.build("licence:length=16,train=32").load()
model = es.MODELS.build("gpt:width=32,depth=2").build(data.input_shape, data.classes, seed=0)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 40))


def loss_fn(model, batch):
    tokens, targets = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


batch = data.inputs, data.targets
monitor = es.watch(model, optimizer, loss_fn, batch, every=8)

# %%
for _ in range(120):
    optimizer.zero_grad()
    loss_fn(model, batch).backward()
    optimizer.step()
    warmup.step()

# %%
print(monitor.verdict())
monitor.plot("loss", "effective_sharpness", "threshold").combined("gpt_warmup", "A small GPT with warm-up").save(".")
