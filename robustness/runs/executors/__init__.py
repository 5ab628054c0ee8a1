"""Executors: where the cells of a run are computed; outcomes are the same everywhere."""
