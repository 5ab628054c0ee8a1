"""Heads of checkpoints: labels, verbalisers, spans, generated texts."""
