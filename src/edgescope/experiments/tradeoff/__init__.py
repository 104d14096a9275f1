"""What the study `tradeoff` runs and reads: descent at many learning rates on networks and on diagonal networks."""
