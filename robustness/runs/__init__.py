"""Runs: the plan of cells, the store of outcomes, and running and resuming."""
