"""PEFT methods that the peft library lacks, built on its classes: they save, load and merge like its own."""
