"""What a ratio with its interval allows to say."""

BASELINE, FASTER, SLOWER, CANT_TELL = "baseline", "faster", "slower", "can't tell"
# Two copies of one network in one process may differ by this much for good, by where their memory happens to lie: a
# smaller difference is one of this run, and not of what was timed (docs/latency.md has the measurement).
RESOLUTION = 0.01


def verdict_of(low: float, high: float) -> str:
    """Faster or slower, or neither can be told.

    Args:
        low: the lower end of the interval of the ratio to the baseline.
        high: its upper end.
    """
    if high < 1 - RESOLUTION:
        return FASTER
    if low > 1 + RESOLUTION:
        return SLOWER
    return CANT_TELL
