"""Colours that follow the page: charts are drawn in placeholder colours, each of which becomes a CSS variable.

The series are the colours of Okabe and Ito, which remain distinguishable under the common forms of colour blindness;
the page's stylesheet darkens or lightens them until they contrast with its background. A series also has a marker and
a name, so that no series depends on its colour alone.
"""

INK = "#010101"
SOFT = "#020202"
LINE = "#030303"
PAPER = "#040404"
BAD = "#050505"
SERIES = ("#110011", "#120012", "#130013", "#140014", "#150015", "#160016", "#170017", "#180018")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PAPER: "--paper",
    BAD: "--bad",
    **{colour: f"--series-{index + 1}" for index, colour in enumerate(SERIES)},
}


def colour(index: int) -> str:
    """The colour of a series; colours repeat after eight."""
    return SERIES[index % len(SERIES)]


def marker(index: int) -> str:
    """The marker of a series; after eight series, each colour comes with the next marker."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]
