"""Whether an artifact computes what PyTorch computes. Compares, and times nothing."""
