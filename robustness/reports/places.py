"""The kinds of places that fragility.csv compares the arms at."""

PLANNED = ("test set", "attack")
"""Rows that are pairs.csv's own rows; all others explore."""
EXPLORING = ("label", "method", "construction")
"""Parts of a test set that have no name but with what they are a part by."""
