"""A hostile input: how its files are made, and the command that meets them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARK = "code-ran"  # hostile files that run make a file of this name in the current folder


@dataclass(frozen=True)
class Case:
    """One run of the program.

    Attributes:
        kind: of file.
        name: what is hostile about it.
        command: the arguments.
        make: writes the files into a folder.
        refused: whether exit code 3 is the only right one; else every documented code is.
    """

    kind: str
    name: str
    command: tuple[str, ...]
    make: Callable[[Path], object]
    refused: bool = False
