"""Checkpoints that can be queried: loading, the pair gate, and batched scores."""
