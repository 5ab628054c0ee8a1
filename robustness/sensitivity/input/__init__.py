"""Probes that perturb the input: embeddings, words, hidden states."""
