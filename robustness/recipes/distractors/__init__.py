"""Attacks that leave a text as it is and put something beside it."""
