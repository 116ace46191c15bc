"""The fewest layers in float32 with which a quantization is good enough."""

from collections.abc import Callable


def fewest(layers: int, good_enough: Callable[[int], bool]) -> int | None:
    """How many of the most sensitive layers have to stay in float32.

    The number is doubled until the quantization is good enough, and then halved between the last two.

    Args:
        layers: in all; the last one has to be quantized.
        good_enough: decides about a number of layers in float32, 0 first.

    Returns:
        None if nothing but float32 is good enough.
    """
    if good_enough(0):
        return 0
    low, high, step = 0, layers, 1  # `low` isn't enough; `high` is, or nothing is left
    while low + step < high:
        if good_enough(low + step):
            high = low + step
        else:
            low, step = low + step, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        if good_enough(middle):
            high = middle
        else:
            low = middle
    return high if high < layers else None
