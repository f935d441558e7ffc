"""Optimization, EMA, checkpoints and logs: everything about training that is not a loss."""
