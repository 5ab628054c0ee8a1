"""Searches that breed or move whole populations of texts."""
