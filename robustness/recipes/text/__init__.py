"""Attacks on text: transformations of words, constraints, rankings and searches."""
