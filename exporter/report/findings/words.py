"""Numbers and names as text."""

import math
import re
from collections.abc import Iterable, Sequence

from attn_export.exporter.records.verdict import finite

SPACE = "\N{NO-BREAK SPACE}"
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
FINEST_DECIMALS = 4
NEAR_ONE = 0.1
FARTHEST = 50.0  # largest quotient of two numbers of a column with the same decimal places


def shown(text: object) -> str:
    """The text with a replacement character for control characters and marks that change the writing direction."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def shortened(text: str, most: int) -> str:
    """A name of at most this many letters. The middle is left out: names mostly differ at their ends."""
    text = shown(text)
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def decimals(values: Iterable[float]) -> int:
    """Decimal places that give the smallest value three significant digits."""
    smallest = min((abs(v) for v in values if v and math.isfinite(v)), default=1.0)
    return min(FINEST_DECIMALS, max(0, 2 - math.floor(math.log10(smallest))))


def column(values: Sequence[float]) -> list[str]:
    """Numbers of one column with the same decimal places; each with three digits where the values are far apart."""
    finite = [abs(value) for value in values if value and math.isfinite(value)]
    if finite and max(finite) > FARTHEST * min(finite):
        return [milliseconds(value) for value in values]
    places = decimals(values)
    return [milliseconds(value, places) for value in values]


def places_in(number: str) -> int:
    """Decimal places of a formatted number."""
    return len(number.partition(".")[2])


def milliseconds(value: float, places: int | None = None) -> str:
    """Without the unit."""
    return f"{value:.{decimals([value]) if places is None else places}f}"


def seconds(value: float) -> str:
    """With the unit."""
    return f"{value:.{2 if value < 1 else 1}f}{SPACE}s"


def speed(ratio: float, ends: Sequence[float]) -> tuple[str, str]:
    """How many times as fast, and the confidence interval: ``("24", "11 to 39")``."""
    return _multiples(*(1 / value if value else math.inf for value in (ratio, *reversed(tuple(ends)))))


def speed_words(ratio: float, ends: Sequence[float], other: str, *, significant: bool) -> str:
    """A latency ratio in the words people use: ``is 24 times as fast as eager (11 to 39)``."""
    fast, between = speed(ratio, ends)
    if not significant:
        return f"can't be told apart from {other} ({between} times as fast)"
    if ratio < 1:
        return f"is {fast} times as fast as {other} ({between})"
    long, between = _multiples(ratio, *ends)
    return f"takes {long} times as long as {other} ({between})"


def _multiples(value: float, low: float, high: float) -> tuple[str, str]:
    """Two decimal places, three near 1, none from 10 on."""
    places = 3 if min(abs(number - 1) for number in (value, low, high)) < NEAR_ONE else 2
    words = ["∞" if math.isinf(n) else f"{n:.0f}" if n >= 10 else f"{n:.{places}f}" for n in (value, low, high)]
    return words[0], f"{words[1]} to {words[2]}"


def interval(ends: Sequence[float], places: int) -> str:
    """``0.149 to 0.156``."""
    low, high = ends
    return f"{low:.{places}f} to {high:.{places}f}"


def percent(share: float) -> str:
    """``0.4 %``, ``8 %``."""
    value = share * 100
    if value == 0:
        return f"0{SPACE}%"
    if abs(value) < 0.005:
        return f"<0.01{SPACE}%"
    places = 0 if abs(value) >= 10 else 1 if abs(value) >= 0.1 else 2
    return f"{value:.{places}f}{SPACE}%"


def plus_minus(share: float) -> str:
    """``±2 %``; beyond ±100 % only that."""
    return f"±{percent(share)}" if share < 1 else f"more than ±100{SPACE}%"


def error(value: float | None) -> str:
    """``1.2e-07``."""
    number = finite(value)
    return "not a number" if number is None else "0" if number == 0 else f"{number:.1e}"


def times(value: float | None) -> str:
    """``1.51×``."""
    number = finite(value)
    return "not a number" if number is None else f"{number:.2f}×" if number < 100 else f"{number:.3g}×"


def large(value: float) -> str:
    """``4.09 G``, ``12.3 M``."""
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{SPACE}{unit}"
    return f"{value:g}"


def size(count: float) -> str:
    """Bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f}{SPACE}{unit}"
    return f"{count:g}{SPACE}B"


def shape(dims: Iterable[object]) -> str:
    """``1×3×224×224``."""
    return "×".join(map(str, dims))


def shapes(of_inputs: Iterable[Iterable[object]]) -> str:
    """Of all inputs, ``1×3×224×224 + 1×7``."""
    return " + ".join(map(shape, of_inputs))


def counted(count: int, one: str, many: str = "") -> str:
    """``1 gate``, ``3 gates``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
