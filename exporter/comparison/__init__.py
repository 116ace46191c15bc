"""Two reports of the same network -> what changed. Compares records, and measures nothing."""
