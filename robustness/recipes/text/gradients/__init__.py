"""Searches that follow gradients at tokens."""
