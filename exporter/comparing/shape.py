"""What a document has to look like: small checks that are put together, and say where one fails."""

import math
from collections.abc import Callable

Check = Callable[[object, str], None]
"""Takes a value and the way to it, such as ``latency.timings[2].batch``; raises `WrongShape`."""


class WrongShape(ValueError):  # noqa: N818 (it is caught beside its makers, and no error of the project's)
    """A value isn't what is expected at its place; the message says which, and what it is."""


def fields(**checks: Check) -> Check:
    """An object with at least these fields."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(way, "an object", value)
        for name, of_field in checks.items():
            place = f"{way}.{name}" if way else name
            if name not in value:
                raise WrongShape(f"{place} is missing")
            of_field(value[name], place)

    return check


def each(of_item: Check, least: int = 0) -> Check:
    """A list of at least so many."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, list):
            raise _wrong(way, "a list", value)
        if len(value) < least:
            raise WrongShape(f"{way} has {len(value)} entries; expected are at least {least}")
        for i, item in enumerate(value):
            of_item(item, f"{way}[{i}]")

    return check


def every_value(of_value: Check) -> Check:
    """An object with any names."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(way, "an object", value)
        for name, item in value.items():
            of_value(item, f"{way}.{name}")

    return check


def or_null(otherwise: Check) -> Check:
    """Null, or what a check takes."""
    return lambda value, way: None if value is None else otherwise(value, way)


def anything(value: object, way: str) -> None:
    """Whatever it is."""


def text(value: object, way: str) -> None:
    """A string."""
    if not isinstance(value, str):
        raise _wrong(way, "a string", value)


def truth(value: object, way: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong(way, "true or false", value)


def whole(value: object, way: str) -> None:
    """A whole number from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(way, "a whole number from 0 on", value)


def count(value: object, way: str) -> None:
    """A whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(way, "a whole number from 1 on", value)


def positive(value: object, way: str) -> None:
    """A number above 0, not infinite."""
    if not _is_finite(value) or not value > 0:  # type: ignore[operator]
        raise _wrong(way, "a number above 0", value)


def not_negative(value: object, way: str) -> None:
    """A number from 0 on, not infinite."""
    if not _is_finite(value) or not value >= 0:  # type: ignore[operator]
        raise _wrong(way, "a number from 0 on", value)


def share(value: object, way: str) -> None:
    """A number between 0 and 1, neither of them."""
    if not _is_finite(value) or not 0 < value < 1:  # type: ignore[operator]
        raise _wrong(way, "a number between 0 and 1", value)


def interval(value: object, way: str) -> None:
    """Two numbers above 0, the smaller one first."""
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(way, "two numbers", value)
    for i, end in enumerate(value):
        positive(end, f"{way}[{i}]")
    if value[0] > value[1]:
        raise _wrong(way, "the smaller number first", value)


def one_of(*words: str) -> Check:
    """One of these strings."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise _wrong(way, f"one of {', '.join(words)}", value)

    return check


def _is_finite(value: object) -> bool:
    """Whether it is a number that has a size; whole numbers that no float can hold have none for us."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _wrong(way: str, expected: str, value: object) -> WrongShape:
    told = {dict: "an object", list: "a list", type(None): "null"}.get(type(value), repr(value)[:40])
    if isinstance(value, list) and len(value) <= 3:
        told = repr(value)[:40]
    return WrongShape(f"{way or 'the document'} is {told}; expected is {expected}")
