"""How wide the hidden layer of a channel gate is."""

from typing import Any


def positive(name: str, value: Any) -> int:
    """The value. Raises ValueError: it is no positive integer; the message has the name."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least 1")
    return value


def squeeze_width(channels: int, reduction: int, divisor: int = 1) -> int:
    """Width of the hidden layer: ``channels // reduction``, rounded by `make_divisible`, and at least one.

    Raises:
        ValueError: a number is not a positive integer.
    """
    width = max(1, positive("channels", channels) // positive("reduction", reduction))
    return width if positive("divisor", divisor) == 1 else make_divisible(width, divisor)


def make_divisible(width: float, divisor: int) -> int:
    """The multiple of ``divisor`` nearest to ``width`` that is not more than 10 % below it.

    The rounding of the MobileNet papers' reference networks: https://arxiv.org/abs/1801.04381.
    """
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * width else nearest
