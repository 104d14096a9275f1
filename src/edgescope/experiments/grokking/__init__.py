"""What the study `grokking` runs and reads: training on modular addition, its measures, and its jump."""
