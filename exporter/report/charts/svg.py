"""A matplotlib figure as SVG that stands in an HTML page.

matplotlib writes a file of its own; a page needs less and more: no prolog, no metadata, no fonts, no colours, no clip
paths, no identifier twice, and a title and a description for those who don't see the picture.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from attn_export.exporter.report.charts.palette import INK, LINE, VARIABLES
from attn_export.exporter.report.findings.words import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS_PER_INCH = 72
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "attn-export",  # the same record gives the same page
    "text.parse_math": False,  # a name with a dollar sign is a name
    "font.family": "DejaVu Sans",  # comes with matplotlib; the page's own font is set by its stylesheet
    "font.size": 12.0,
    "axes.linewidth": 1.0,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "text.color": INK,
    "path.simplify": True,
}
NUMBER = re.compile(r"-?\d+\.\d+")
SPACE = re.compile(r"\s*\n\s*|\s+(?=[MLCQzZ])|(?<=[MLCQ])\s+")
COLOUR = re.compile(r"#[0-9a-f]{6}")
FONT = re.compile(r"font-family:[^;]*;\s*|font: [\d.]+px [^;]*;\s*")
NO_TURN = re.compile(r"^rotate\(-?0(?:\.0+)? [^)]*\)$")
SHAPES = frozenset({"path", "use", "g"})


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in CSS pixels, with the settings of all charts; matplotlib's own are afterwards as before.

    It is drawn within the block, by `inline`.
    """
    with rc_context(SETTINGS), warnings.catch_warnings():
        # The browser's fonts are what counts, not whether matplotlib's has a sign for every letter of a name.
        warnings.filterwarnings("ignore", message="Glyph")
        yield Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH), dpi=POINTS_PER_INCH)


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> "Axes":
    """Axes at this place, in pixels from the upper left corner, without ticks and with a line at the bottom only."""
    across, down = (size * POINTS_PER_INCH for size in figure.get_size_inches())
    axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    axes.set_xticks([])
    axes.set_yticks([])
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    return axes


def drawing_board(figure: Figure) -> "Axes":
    """Axes over the whole figure whose units are pixels, with the origin in the upper left corner; nothing is on it."""
    across, down = (size * POINTS_PER_INCH for size in figure.get_size_inches())
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, across)
    axes.set_ylim(down, 0)
    return axes


def inline(
    figure: Figure, name: str, title: str, finding: str, hints: Mapping[str, Sequence[str] | str] | None = None
) -> str:
    """The figure as markup.

    Args:
        figure: as `canvas` gave it.
        name: the same for no other chart of the page; it stands before every identifier.
        title: of the chart.
        finding: what is to be seen in it.
        hints: by the ``gid`` of an artist, what a pointer that rests on it is told: one text, or one for each point.
    """
    for written_text in figure.findobj(Text):
        written_text.set_text(shown(written_text.get_text()))
    written = BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    root = ET.fromstring(written.getvalue())  # noqa: S314 (written by matplotlib just now)
    _strip(root)
    _hint(root, hints or {})
    _identify(root, name)
    width, height = (float(size) for size in root.attrib.pop("viewBox").split()[2:])
    root.attrib = {
        "class": "chart",
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-finding",
        "viewBox": f"0 0 {width:g} {height:g}",
    }
    for tag, text in (("desc", finding), ("title", title)):
        element = ET.Element(tag, {"id": f"{name}-{'title' if tag == 'title' else 'finding'}"})
        element.text = shown(text)
        root.insert(0, element)
    return ET.tostring(root, encoding="unicode")


def _strip(element: ET.Element) -> None:
    """Leave out what a page has no use for, and write the rest shorter."""
    element.tag = element.tag.rpartition("}")[2]
    element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items() if key != "clip-path"}
    if "style" in element.attrib:
        element.attrib["style"] = _styled(element.attrib["style"])
    for key in ("d", "x", "y", "transform"):
        if key in element.attrib:
            element.attrib[key] = NUMBER.sub(_shorter, element.attrib[key])
    if "d" in element.attrib:
        element.attrib["d"] = SPACE.sub("", element.attrib["d"]).strip()
    if NO_TURN.match(element.attrib.get("transform", "")):
        del element.attrib["transform"]
    for child in list(element):
        tag = child.tag.rpartition("}")[2]
        if tag in ("metadata", "style", "clipPath"):
            element.remove(child)
            continue
        _strip(child)
        child.tail = None
        if tag in ("defs", "g") and not len(child):
            element.remove(child)
    if element.tag != "text":
        element.text = None


def _styled(style: str) -> str:
    style = FONT.sub("", style)
    style = COLOUR.sub(lambda match: f"var({VARIABLES[match[0]]})" if match[0] in VARIABLES else match[0], style)
    return NUMBER.sub(_shorter, style).replace(": ", ":").replace("; ", ";")


def _shorter(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _hint(root: ET.Element, hints: Mapping[str, Sequence[str] | str]) -> None:
    """Give what is drawn the texts that a pointer resting on it is told."""
    for group in root.iter("g"):
        found = hints.get(group.get("id", ""))
        if found is None:
            continue
        if isinstance(found, str):
            ET.SubElement(group, "title").text = shown(found)
            continue
        points = [element for element in group.iter() if element.tag == "use"]
        for point, text in zip(points, found, strict=True):
            ET.SubElement(point, "title").text = shown(text)


def _identify(root: ET.Element, name: str) -> None:
    """Keep the identifiers that something refers to, under names that no other chart has."""
    wanted = {element.attrib["href"][1:] for element in root.iter("use")}
    names = {old: f"{name}-{index}" for index, old in enumerate(sorted(wanted))}
    for element in root.iter():
        if (old := element.attrib.pop("id", None)) in names:
            element.attrib["id"] = names[str(old)]
        if element.tag == "use":
            element.attrib["href"] = f"#{names[element.attrib['href'][1:]]}"
