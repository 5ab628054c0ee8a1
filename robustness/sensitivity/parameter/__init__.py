"""Probes that perturb the parameters."""
