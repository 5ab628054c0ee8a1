"""Attacks that add something beside a text without changing it."""
