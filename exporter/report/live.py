"""Progress while it happens, for whoever watches standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TextIO

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text
from typing_extensions import Self

from attn_export.exporter.report.console import LogConsole, PlainConsole, clipped
from attn_export.exporter.system.progress import Advance

# A stage that is over sooner than this is not worth a line.
WORTH_SAYING_SECONDS = 1.0


class Bars:
    """A moving bar for the stage at work, in a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=PlainConsole(file=stream),
            transient=True,
            refresh_per_second=3,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """A bar that pulses until the first share is known."""
        task = self._progress.add_task(escape(title), total=None)
        try:
            yield lambda share: self._progress.update(task, total=1.0, completed=share)
        finally:
            self._progress.remove_task(task)

    def note(self, message: str) -> None:
        """A line above the bar."""
        self._progress.console.print(Text.assemble(("note: ", "yellow"), clipped(message)))


class Lines:
    """Lines for each stage that takes a while, in a log: when it has run for a second, and when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._console = LogConsole(file=stream, soft_wrap=True, highlight=False)

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """A long stage is announced while it runs: a log isn't silent for the longest of them."""
        started = time.perf_counter()
        timer = Timer(WORTH_SAYING_SECONDS, self._console.print, [f"{title} ..."], {"markup": False})
        timer.daemon = True
        timer.start()
        try:
            yield lambda _: None
        finally:
            timer.cancel()
        seconds = time.perf_counter() - started
        if seconds >= WORTH_SAYING_SECONDS:
            self._console.print(f"{title}: {seconds:.1f} s", markup=False)

    def note(self, message: str) -> None:
        """A line."""
        self._console.print(f"note: {clipped(message)}", markup=False)
