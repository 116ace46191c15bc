"""What the page consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: of its template, and where links to it lead.
        title: its heading.
        short: the same in a word, for the list of sections.
        content: what the template shows.
        absent: instead of content, why there is none.
    """

    name: str
    title: str
    short: str
    content: Mapping[str, Any] = field(default_factory=dict)
    absent: str = ""
