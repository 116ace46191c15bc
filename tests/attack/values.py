"""Values at which programs break, and what to put them into."""

import copy
from collections.abc import Iterator
from typing import Any

INTEGERS = (0, -1, 1, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), 10**9)
ESCAPES = "\x1b]0;owned\x07\x1b[2J"
JSON: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        2**63,
        10**30,
        10**400,
        5e-324,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "\0",
        "\ud800",
        ESCAPES,
    ),
    *("[/x]", "../../x", "/etc/passwd", "x" * 5000, [], {}, [None], [[]], {"": None}, ["a"] * 50, [10**400] * 4),
)
Place = tuple[str | int, ...]


def places(document: Any, path: Place = ()) -> Iterator[Place]:
    """The path of every value; of a list only its first entry's, as the others are alike."""
    if path:
        yield path
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*path, key))
    elif isinstance(document, list) and document:
        yield from places(document[0], (*path, 0))


def replaced(document: Any, path: Place, value: Any) -> Any:
    """A copy with another value at a path."""
    result = copy.deepcopy(document)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result
