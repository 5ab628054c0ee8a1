"""Bounds from above: products of constants, and certificates over balls of embeddings."""
