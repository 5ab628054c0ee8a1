"""Planning: what a run will do, show and cost, before it runs."""
