"""The run folder: outcomes, readings, run.json, and who may write."""
