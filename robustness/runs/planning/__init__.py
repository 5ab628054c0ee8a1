"""What a run will do and show, and what it will cost, told before it runs."""
