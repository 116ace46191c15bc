"""The latency of the attention blocks of a network."""
