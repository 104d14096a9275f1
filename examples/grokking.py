# %% [markdown]
# # Grokking, watched live
#
# A network memorises sums modulo 23 in a few steps and generalizes much later. `evaluations=` has the test pairs measured
# beside the training pairs; with `out=` the page of `edgescope board` shows the run while it is trained.

# %%
import torch
import torch.nn.functional as F

import edgescope as es

data = es.DATA.build("modular-addition:modulus=23,share=0.6").load()
model = es.MODELS.build("mlp:widths=96,activation=relu").build(data.input_shape, data.classes, seed=0)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=1.0)
test = es.Objective(model, es.supervised(F.cross_entropy), (data.test_inputs, data.test_targets))
measures = ["loss", "accuracy", "sharpness"]
options = {"evaluations": {"test": test}, "measures": measures, "out": "grokking"}
monitor = es.watch(model, optimizer, F.cross_entropy, (data.inputs, data.targets), every=20, **options)

# %%
for _ in range(1000):
    optimizer.zero_grad()
    F.cross_entropy(model(data.inputs), data.targets).backward()
    optimizer.step()

# %%
first = {}
for part in ("train", "test"):
    steps, accuracy = monitor.record.series("accuracy", part)
    first[part] = steps[(accuracy > 0.9).argmax()]
print(f"90% of the training pairs are right from step {first['train']}, of the test pairs from step {first['test']}.")
monitor.plot("accuracy", "sharpness").combined("grokking", "Grokking").save(".")
