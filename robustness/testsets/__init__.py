"""Test sets to examples: official files in a folder, packaged files, or the hub by pinned revision."""
