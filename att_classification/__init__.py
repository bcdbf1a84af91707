"""The attribute classifier that measures edits, and the accuracy table."""
