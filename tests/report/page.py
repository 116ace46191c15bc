"""A page as a tree, as a browser reads it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}
SKIPPED = {"style", "script", "title", "desc"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: "Element | None" = None
    children: "list[Element | str]" = field(default_factory=list)

    def walk(self) -> "Iterator[Element]":
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def find(self, tag: str, **attributes: str) -> "list[Element]":
        """All elements below with this tag and these attributes; ``class_`` is one of the classes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            e
            for e in self.walk()
            if e.tag == tag
            and all(
                value in e.attributes.get(name, "").split() if name == "class" else e.attributes.get(name) == value
                for name, value in wanted.items()
            )
        ]

    @property
    def text(self) -> str:
        """What is read, without what is drawn."""
        parts = [c if isinstance(c, str) else "" if c.tag in SKIPPED else c.text for c in self.children]
        return " ".join("".join(parts).split())

    @property
    def own_text(self) -> str:
        """Everything inside, titles of pictures too."""
        return "".join(c if isinstance(c, str) else c.own_text for c in self.children)

    def within(self, test: "Callable[[Element], bool]") -> bool:
        return test(self) or (self.parent is not None and self.parent.within(test))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) != len(names):
            self.problems.append(f"<{tag}> has an attribute twice: {names}")
        element = Element(tag, {name: value or "" for name, value in attrs}, self.open[-1])
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1].tag != tag:
            self.problems.append(f"</{tag}> where <{self.open[-1].tag}> is open, line {self.getpos()[0]}")
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(html: str) -> Element:
    """The page; every element is closed where it should be."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert not reader.problems, reader.problems[:5]
    assert [element.tag for element in reader.open] == [""]
    return reader.root
