"""Tasks: questions, golds and the grading of answers; needs neither torch nor a model."""
