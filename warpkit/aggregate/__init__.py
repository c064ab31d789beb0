"""Aggregation: layer features of all recorded steps to one descriptor per cell.

Holds the network, its form that reads a run step by step, stacks of raw layers, pruning and
checkpoints. Takes features from `features`; knows nothing of images, models' names or matching.
"""
