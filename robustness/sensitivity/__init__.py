"""Probes: how sensitive a checkpoint is to perturbations of its input and parameters, every number with its kind."""
