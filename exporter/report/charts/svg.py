"""matplotlib figures as SVG inside an HTML page.

matplotlib writes a complete SVG file. Inline in a page, identifiers must be unique, colours and fonts are those of the
page, and a title and a description stand for the picture.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

from matplotlib import rc_context
from matplotlib.figure import Figure

from attn_export.exporter.report.charts.palette import INK, LINE, SOFT, VARIABLES
from attn_export.exporter.report.findings.table import Table
from attn_export.exporter.report.findings.words import shown

WIDE, HALF = 1080, 528  # CSS pixels: a chart over the whole page, and one of two side by side
POINTS_PER_INCH = 72
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "attn-export",  # the same report gives the same page
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "font.family": "DejaVu Sans",  # comes with matplotlib, and is wider than the page's own fonts
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": SOFT,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "xtick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.color": LINE,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0.0,
    "ytick.major.pad": 6.0,
    "legend.frameon": False,
    **{f"axes.spines.{side}": False for side in ("left", "top", "right")},
}
NUMBER = re.compile(r"-?\d+\.\d+")
COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Chart:
    """A chart as markup with escaped texts; ``finding`` says what it shows, for readers who cannot see it."""

    svg: str
    title: str
    note: str
    finding: str
    data: Table
    width: int


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure in the charts' settings; `finished` must be called inside the block, which restores matplotlib's own.

    Width and height are CSS pixels.
    """
    with rc_context(SETTINGS), warnings.catch_warnings():
        # The browser's fonts draw the text, so a glyph missing in matplotlib's font does not matter.
        warnings.filterwarnings("ignore", message="Glyph")
        size = (width / POINTS_PER_INCH, height / POINTS_PER_INCH)
        yield Figure(figsize=size, dpi=POINTS_PER_INCH, layout="constrained")


def finished(
    figure: Figure,
    name: str,
    finding: str,
    data: Table,
    *,
    note: str = "",
    hints: Mapping[str, Sequence[str]] | None = None,
) -> Chart:
    """The chart of a figure.

    ``name`` prefixes every identifier and is unique in the page; the caption of ``data`` is the title. ``hints`` are
    tooltips for the markers of a series, by its ``gid``.
    """
    svg = _inline(figure, name, data.caption, finding, hints or {})
    return Chart(svg, data.caption, note, finding, data, round(figure.get_figwidth() * POINTS_PER_INCH))


def _inline(figure: Figure, name: str, title: str, finding: str, hints: Mapping[str, Sequence[str]]) -> str:
    file = BytesIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True)
    root = ET.fromstring(file.getvalue())  # noqa: S314 (written by matplotlib just now)
    for element in list(root.iter()):
        _adapt(element, f"{name}-")
    for group in root.iter("g"):
        texts = hints.get(group.get("id", "").removeprefix(f"{name}-"), ())
        for point, text in zip(group.iter("use") if texts else (), texts, strict=True):
            ET.SubElement(point, "title").text = shown(text)
    root.attrib = {
        "class": "chart",
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-finding",
        "viewBox": root.attrib["viewBox"],
    }
    for tag, key, text in (("desc", "finding", finding), ("title", "title", title)):
        heading = ET.Element(tag, {"id": f"{name}-{key}"})
        heading.text = shown(text)
        root.insert(0, heading)
    return ET.tostring(root, encoding="unicode")


def _adapt(element: ET.Element, prefix: str) -> None:
    """Prefix identifiers, replace colours by variables, round coordinates, and remove clip paths and styles."""
    element.tag = element.tag.rpartition("}")[2]
    for child in list(element):
        if child.tag.endswith(("}style", "}clipPath")):
            element.remove(child)
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    attributes.pop("clip-path", None)
    for key, value in attributes.items():
        if key == "id":
            attributes[key] = prefix + value
        elif key == "href":
            attributes[key] = f"#{prefix}{value[1:]}"
        elif key == "style":
            attributes[key] = COLOUR.sub(
                lambda found: f"var({VARIABLES[found[0]]})" if found[0] in VARIABLES else found[0], value
            )
        elif key in ("d", "x", "y", "transform"):
            attributes[key] = NUMBER.sub(_rounded, " ".join(value.split()))
    element.attrib = attributes


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
