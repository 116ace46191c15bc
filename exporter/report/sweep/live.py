"""A sweep while it runs, on standard error: a live table in a terminal, lines elsewhere."""

from collections import deque
from typing import TextIO

from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from attn_export.exporter.records.sweep import Outcome
from attn_export.exporter.report.console import LogConsole, PlainConsole, clipped
from attn_export.exporter.report.findings.words import error as format_error
from attn_export.exporter.report.findings.words import milliseconds, seconds
from attn_export.exporter.report.tables import table

RECENT = 12  # rows of the live table that are done


class Watch:
    """Callbacks for what happens; this one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, jobs: int, reused: int) -> None:
        """So many jobs there are, and so many of them are done."""

    def started(self, name: str, node: str) -> None:
        """A job has been started."""

    def finished(self, outcome: Outcome) -> None:
        """A job has ended, in whatever way."""

    def lost(self, name: str, node: str) -> None:
        """The node was lost; the job will run elsewhere."""


class SweepLines(Watch):
    """A line for each job that ends."""

    def __init__(self, stream: TextIO) -> None:
        self._console = LogConsole(file=stream, soft_wrap=True, highlight=False)
        self._jobs = self._done = 0

    def begin(self, jobs: int, reused: int) -> None:
        """How much there is to do."""
        self._jobs, self._done = jobs, reused
        self._console.print(f"{jobs} jobs, {reused} of them done before", markup=False)

    def finished(self, outcome: Outcome) -> None:
        """What came of it."""
        self._done += 1
        line = f"{self._done}/{self._jobs} {outcome.name}: {words(outcome)} ({seconds(outcome.seconds)})"
        self._console.print(clipped(line), markup=False)

    def lost(self, name: str, node: str) -> None:
        """Where it ran, and that it will run again."""
        self._console.print(f"{name}: {node} was lost, it runs again elsewhere", markup=False)


class SweepTable(Watch):
    """What runs and what came last, as a table that is drawn again and again."""

    def __init__(self, stream: TextIO) -> None:
        self._live = Live(console=PlainConsole(file=stream), transient=True, refresh_per_second=4)
        self._jobs = self._done = self._failed = 0
        self._running: dict[str, str] = {}
        self._recent: deque[tuple[str, str, bool]] = deque(maxlen=RECENT)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, jobs: int, reused: int) -> None:
        """How much there is to do."""
        self._jobs, self._done = jobs, reused
        self._draw()

    def started(self, name: str, node: str) -> None:
        """A row of what runs."""
        self._running[name] = node
        self._draw()

    def finished(self, outcome: Outcome) -> None:
        """A row of what came last."""
        self._running.pop(outcome.name, None)
        self._done += 1
        self._failed += outcome.error is not None
        self._recent.append((outcome.name, words(outcome), outcome.error is None))
        self._draw()

    def lost(self, name: str, node: str) -> None:
        """A line above the table."""
        self._running.pop(name, None)
        self._live.console.print(Text(f"{name}: {node} was lost, it runs again elsewhere"))

    def _draw(self) -> None:
        self._live.update(self._table())

    def _table(self) -> Table:
        failed = f", {self._failed} failed" if self._failed else ""
        drawn = table(f"{self._done} of {self._jobs} jobs{failed}", "job", "")
        drawn.columns[1].justify, drawn.columns[1].no_wrap = "left", False
        for name, result, good in self._recent:
            drawn.add_row(Text(name), Text(clipped(result), "" if good else "red"))
        for name, node in self._running.items():
            drawn.add_row(Text(name), Text(f"runs on {node} …", "cyan"))
        return drawn


def words(outcome: Outcome) -> str:
    """The result in a few words."""
    if outcome.error is not None:
        return outcome.error.message
    figures = outcome.figures
    known = [
        f"{milliseconds(figures.latency_ms)} ms" if figures.latency_ms is not None else "",
        f"error {format_error(figures.error)}" if figures.error is not None else "",
        f"{figures.sqnr_db:.1f} dB" if figures.sqnr_db is not None else "",
        f"{figures.kernels} kernels" if figures.kernels is not None else "",
        f"not run: {figures.not_timed}" if figures.not_timed else "",
    ]
    return ", ".join(part for part in known if part) or "done"
