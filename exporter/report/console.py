"""The console of everything that people read: names that come out of a file can't command the terminal."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from attn_export.exporter.report.findings.words import shown

LONGEST_MESSAGE = 3000


class PlainConsole(Console):
    """A console that replaces control characters, and marks that change the writing direction.

    A tensor's name may be the escape sequence that clears the screen. Rich's own styles and bars aren't affected.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, with harmless text."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else "\n".join(map(shown, text.split("\n"))), style, control)


class LogConsole(PlainConsole):
    """A console of progress: the work goes on where it can't be written, as on a full disk."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, if that is possible."""
        with suppress(OSError):
            super().print(*objects, **options)


def clipped(message: str) -> str:
    """A message without its middle if it is longer than anybody reads: a name in a file may have a million letters."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    half = LONGEST_MESSAGE // 2
    return f"{message[:half]} … ({len(message) - 2 * half} more characters) … {message[-half:]}"
