# %% [markdown]
# # A learning rate found
#
# `es.find_lr` tries learning rates in short runs, bounded by the rate at which single steps become unstable. The
# picture shows the loss of the runs, and with bars the critical rates of single batches.

# %%
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es

data = es.DATA.build("digits").load()
loader = DataLoader(TensorDataset(data.inputs.flatten(1), data.targets), batch_size=32, shuffle=True)


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


# %%
found = es.find_lr(network, F.cross_entropy, loader, optimizer="sgd:momentum=0.9", steps=60, seconds=None)
print(found)
found.figure().save(".", "find_lr")
