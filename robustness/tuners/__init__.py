"""PEFT methods that the peft library does not have, in its own terms: they save, load and merge as its own do."""
