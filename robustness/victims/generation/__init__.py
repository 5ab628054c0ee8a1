"""Generation: greedy decoding in batches, and reading along what a model might go on with."""
