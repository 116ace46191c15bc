"""Latency measurements."""
