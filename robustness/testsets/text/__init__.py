"""Rows of tasks that are answered with free text, and partners that are made of them."""
