"""What the study `geometries` runs, and how a descent, its steps and a quadratic are read from their records."""
