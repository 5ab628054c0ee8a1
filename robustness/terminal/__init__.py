"""The command line in the terminal: its options, what it prints, progress, and how it ends."""
