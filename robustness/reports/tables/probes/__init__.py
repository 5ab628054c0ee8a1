"""Tables of what probes measured."""
