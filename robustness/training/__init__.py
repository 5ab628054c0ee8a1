"""Trains pairs with the same data, order, seeds and selection rule for every method."""
