"""Stands for the adapter's helper package."""
