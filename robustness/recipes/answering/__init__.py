"""Distractors that are searched for beside a question's paragraph."""
