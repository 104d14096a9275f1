"""What the study `flatness` runs and reads: shallow relu networks under several methods, and the user's own network."""
