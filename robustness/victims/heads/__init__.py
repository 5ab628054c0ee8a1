"""What a checkpoint answers with: labels, verbalisers, spans."""
