"""What studies run, and what is read of it: tasks that train or simulate, and readings of their records."""
