"""Colours that follow the page: each is drawn as a colour of its own and then replaced by a CSS variable.

The series are Okabe and Ito's colours, which people with any of the usual colour blindnesses can tell apart, made
darker or lighter in the page's stylesheet until they stand out from its background. No series is told by its colour
alone: each has a mark and a name as well.
"""

INK = "#010101"
SOFT = "#020202"
LINE = "#030303"
PAPER = "#040404"
GOOD = "#050505"
BAD = "#060606"
UNSURE = "#070707"
IDLE = "#080808"
SERIES = ("#110011", "#120012", "#130013", "#140014", "#150015", "#160016", "#170017", "#180018")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PAPER: "--paper",
    GOOD: "--good",
    BAD: "--bad",
    UNSURE: "--unsure",
    IDLE: "--idle",
    **{colour: f"--series-{index + 1}" for index, colour in enumerate(SERIES)},
}


def colour(index: int) -> str:
    """Of the series with this index; they repeat after eight."""
    return SERIES[index % len(SERIES)]


def marker(index: int) -> str:
    """Of the series with this index. After eight, colours come back with the next mark."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]
