"""Limits on figures: parsed from the command line, and checked against a report."""
