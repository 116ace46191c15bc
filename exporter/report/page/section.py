"""A section of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: of its template, and the target of links to it.
        title: the heading.
        short: a word for the list of sections.
        content: values for the template.
        absent: why there is no content, otherwise empty.
    """

    name: str
    title: str
    short: str
    content: Mapping[str, Any] = field(default_factory=dict)
    absent: str = ""
