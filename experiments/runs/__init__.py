"""A run and its folder: inputs, checkpoints, resuming, results."""
