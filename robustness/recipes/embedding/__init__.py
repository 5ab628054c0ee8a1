"""Attacks on the embeddings of a text."""
