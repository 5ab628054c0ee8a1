"""Rows of training: loaded, encoded, changed, and scored."""
