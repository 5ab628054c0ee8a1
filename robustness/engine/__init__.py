"""The attack protocol, the example-parallel scheduler and the referee."""
