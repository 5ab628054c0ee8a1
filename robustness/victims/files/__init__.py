"""Readers of a checkpoint's files: configs, weights, adapters, tokenizers."""
