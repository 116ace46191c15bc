"""A sweep while it runs, and its results as tables."""
