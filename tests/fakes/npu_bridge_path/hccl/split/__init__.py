"""Stands for the split of gradients into reductions."""
