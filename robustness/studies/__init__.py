"""A study as one resumable graph of jobs: train, gate, run and report."""
