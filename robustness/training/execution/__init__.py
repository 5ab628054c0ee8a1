"""Executes training jobs: the context of a process, one checkpoint's folder, progress, and workers."""
