"""Numbers that are None where they are not finite."""

import math


def or_infinite(value: float | None) -> float:
    """The number, or infinity."""
    return math.inf if value is None else value
