"""Stands for the adapter's package of collective ops."""
