"""Rows of tasks with free-text answers, and partners generated from them."""
