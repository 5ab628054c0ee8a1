"""Makes checkpoints of jobs: what a process shares, the folder of one, and workers."""
