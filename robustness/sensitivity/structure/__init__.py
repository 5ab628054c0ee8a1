"""Probes of the weight update itself."""
