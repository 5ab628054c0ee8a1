"""Whole responses as functions of a prompt's word embeddings: margin, loss and decoding."""
