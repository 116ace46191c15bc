"""A section of the page, and what it is composed of."""

from dataclasses import dataclass

from attn_export.exporter.records.accuracy import Flip
from attn_export.exporter.report.charts.svg import Chart
from attn_export.exporter.report.findings.gates import GatedBlock, Image
from attn_export.exporter.report.findings.table import Table


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Items:
    """Sentences that state the result; ``caution`` frames them as warnings."""

    sentences: tuple[str, ...]
    caution: bool = False


@dataclass(frozen=True)
class Command:
    """A line for a shell."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Parts behind a summary, open or folded."""

    summary: str
    parts: "tuple[Part, ...]"
    open: bool = False


@dataclass(frozen=True)
class Beside:
    """Parts beside each other where the page is wide enough."""

    parts: "tuple[Part, ...]"


@dataclass(frozen=True)
class Cards:
    """Attention blocks with their gates as pictures."""

    blocks: tuple[GatedBlock, ...]


@dataclass(frozen=True)
class Sample:
    """The sample image with sentences about the gates on it."""

    image: Image | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Flips:
    """Pictures that are answered otherwise than in PyTorch."""

    cards: tuple[Flip, ...]


# A plain string is a paragraph; None is left out.
Part = str | None | Heading | Items | Command | Table | Chart | Fold | Beside | Cards | Flips | Sample


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: the target of links to it.
        short: a word for the list of sections.
        parts: from top to bottom; without any, the section is absent.
        brief: the result in a few words, beside the heading.
        open: whether the parts are shown at once.
        first: whether it stands above the others.
        absent: why there is no content, otherwise empty.
    """

    name: str
    title: str
    short: str
    parts: tuple[Part, ...] = ()
    brief: str = ""
    open: bool = True
    first: bool = False
    absent: str = ""
