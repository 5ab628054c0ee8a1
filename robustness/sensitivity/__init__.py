"""Probes: how sensitive a checkpoint is to perturbations of its input and parameters, every number with its kind.

A restricted space does not by itself make a trained model more fragile. On x = y (1, 0.1) the full linear classifier
of largest l2 margin has the l-infinity margin 1.01 / 1.1. A classifier restricted to the first feature has a larger
margin, one restricted to the second feature a smaller margin:

>>> margin = lambda w: (w[0] + 0.1 * w[1]) / (abs(w[0]) + abs(w[1]))
>>> round(margin((1, 0.1)), 3), margin((1, 0)), margin((0, 1))
(0.918, 1.0, 0.1)
"""
