"""Options about latencies and reports, and the words that they take."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.options import split
from attn_export.exporter.errors import UsageError

PANEL = "Latencies and reports"
MOST_CPUS = 4096

Interval = Annotated[
    str,
    typer.Option(
        "--ci",
        help="How well the ratios are to be known, to either side.",
        metavar="PERCENT",
        rich_help_panel=PANEL,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        min=0.1,
        max=86400,
        help="Time for that, for each batch; what is reached is said.",
        rich_help_panel=PANEL,
    ),
]
Cpus = Annotated[
    str | None,
    typer.Option(help="Keep everything to these CPUs: 0-3 or 0,2.", show_default=False, rich_help_panel=PANEL),
]
Isolate = Annotated[
    bool,
    typer.Option("--isolate", help="Time each runtime of a file in a separate process.", rich_help_panel=PANEL),
]
Reports = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        help="Write it down too: report.html, report.md or report.json.",
        show_default=False,
        metavar="FILES",
        rich_help_panel=PANEL,
    ),
]


def parse_interval(text: str) -> float:
    """``2%`` or ``2`` -> 0.02.

    Raises:
        UsageError: it is no percentage, or none that can be reached.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%?\s*", text)
    value = float(found[1]) / 100 if found else math.nan
    if not 0 < value < 1:
        raise UsageError(f"--ci {text} is no percentage between 0 and 100", hint="For example --ci 2%.")
    return value


def parse_cpus(text: str | None) -> tuple[int, ...] | None:
    """``0-2,5`` -> (0, 1, 2, 5), those that this process may use.

    Raises:
        UsageError: it isn't of this form, or one can't be used.
    """
    if text is None:
        return None
    from attn_export.exporter.latency.affinity import check_cpus

    chosen: list[int] = []
    for part in split([text]) or ("",):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if not found or int(found[1]) > int(found[2] or found[1]) or int(found[2] or found[1]) >= MOST_CPUS:
            raise UsageError(f"--cpus {text} can't be understood", hint="Expected are numbers: 0-3 or 0,2.")
        chosen += range(int(found[1]), int(found[2] or found[1]) + 1)
    return check_cpus(chosen)


def parse_batches(values: Iterable[str] | None) -> tuple[int, ...]:
    """``["1,8", "32"]`` -> (1, 8, 32).

    Raises:
        UsageError: one of them is no batch.
    """
    made = []
    for part in split(values):
        if not re.fullmatch(r"[1-9]\d{0,5}", part):
            raise UsageError(f"--batch {part} is no number of images", hint="For example --batch 1,8,32.")
        made.append(int(part))
    return tuple(dict.fromkeys(made))


def report_paths(values: Iterable[Path] | None) -> tuple[Path, ...]:
    """Comma lists and repetition alike."""
    return tuple(Path(part) for part in split(str(path) for path in values or ()))
