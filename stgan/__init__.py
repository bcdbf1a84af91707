"""STGAN: data, networks, training, editing and measuring."""

__version__ = '0.1.0'
