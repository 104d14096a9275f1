# %% [markdown]
# # Norm against sharpness in a sweep of learning rates
#
# A network is trained to the same loss at several learning rates. Below the critical rate all end where gradient flow
# does; above it the sharpness is 2/η and the norm of the weights larger.

# %%
import edgescope as es
from edgescope.training import End, FlowEnd, descent_at, flow_of, tradeoff_table

base = es.RunConfig(
    data="digits:train=100,test=200", model="mlp:widths=16", loss="mse", stop_loss=0.05, steps=4000, threads=1
)
es.train(flow_of(base), "sweep/flow")
with es.Record.open("sweep/flow") as record:
    critical = FlowEnd.of(record).critical_lr

# %%
runs = {f"{times:g}": descent_at(base, times * critical) for times in (0.25, 0.5, 0.8, 1.2, 1.7, 2.5, 4)}
outcomes = es.sweep.run(runs, "sweep", jobs=1)
ends = []
for name in runs:
    with es.Record.open(f"sweep/runs/{name}") as record:
        ends.append(End.of(record))

# %%
table = tradeoff_table(ends, critical)
chart = es.figures.tradeoff_panels(table, critical_lr=critical)
low, high = table["l2"][0], table["l2"].max()
print(f"Critical learning rate {critical:.3f}; the norm is {low:.2f} below it and up to {high:.2f} above it.")
es.figures.Figure(
    "lr_sweep", "Norm and sharpness over the learning rate", "Ends of runs at seven learning rates.", chart
).save(".")
