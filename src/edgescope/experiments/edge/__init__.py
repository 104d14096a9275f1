"""What the study `edge` runs and reads: optimizers at their thresholds, and what sharpness and loss do there."""
