"""Generation: greedy decoding in batches, and scoring of given continuations in one forward pass."""
