"""The runs of the study `central`: optimizers, and the flows of their averaged trajectories beside them."""
