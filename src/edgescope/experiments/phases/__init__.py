"""What study `phases` runs and reads: chains, linear networks and others, swept, trapped and released."""
