"""Attacks on text: the forms of words, constraints, rankings and searches."""
