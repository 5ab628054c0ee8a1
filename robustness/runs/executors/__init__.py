"""Executors compute the cells of a run; all give the same outcomes."""
