"""The work behind each command: one file for each."""
