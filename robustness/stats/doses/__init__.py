"""Trends over doses, such as trainable parameters: slopes, order within seeds, and what would have been found."""
