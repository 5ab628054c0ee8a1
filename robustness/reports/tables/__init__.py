"""The CSV tables of a run folder, one module a table, and their columns."""
