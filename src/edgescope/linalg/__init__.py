"""Matrix-free numerics that know nothing of networks."""
