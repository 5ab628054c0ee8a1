"""Loads test sets as examples: official files in a folder, packaged files, or the hub by pinned revision."""
