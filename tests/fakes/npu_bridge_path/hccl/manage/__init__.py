"""Stands for the management of ranks."""
