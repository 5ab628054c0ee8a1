"""Arms compared on the same examples: places, rates, efforts, seeds, families, verdicts."""
