"""Options that several commands share, and the words that they take."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from attn_export.exporter.artifacts import DEVICES, Target
from attn_export.exporter.errors import UsageError

if TYPE_CHECKING:
    from attn_export.exporter.records.budget import Budget

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run code that the checkpoint holds. Only for files of known origin.")
]
# More than any machine has CPUs would only take memory.
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="CPU threads of every runtime.", show_default="all CPUs")
]
Device = Annotated[
    str, typer.Option("--device", help="Where PyTorch and ONNX Runtime are timed: cpu or cuda.", metavar="NAME")
]
For = Annotated[
    str | None,
    typer.Option(
        "--for", help="Shape the graph for tensorrt or onnxruntime.", show_default="good in both", metavar="RUNTIME"
    ),
]

Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        help="A limit, and exit code 1 where it is broken: latency=3ms, p99=5ms, ratio=0.8 or drop=0.5%; of every "
        "artifact, or of one runtime: eager:latency=9ms.",
        show_default=False,
        metavar="LIMIT",
    ),
]


def split(values: Iterable[str] | None) -> tuple[str, ...]:
    """Comma lists and repetition alike: ["a,b", "c"] -> ("a", "b", "c")."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def parse_axes(dynamic: list[str] | None, static: bool) -> tuple[str, ...]:
    """The open axes.

    Raises:
        UsageError: contradictory or unknown.
    """
    known = ("batch", "height", "width")
    names = split(dynamic)
    if static and names:
        raise UsageError("--static and --dynamic contradict each other", hint="Leave one of them out.")
    for name in names:
        if name not in known:
            raise UsageError(f"--dynamic {name}: there is no such axis", hint=f"Known are {', '.join(known)}.")
    return () if static else names or ("batch",)


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """``1x3x224x224`` -> (1, 3, 224, 224).

    Raises:
        UsageError: it isn't of this form.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){3}", text.lower()):
        raise UsageError(f"--input {text} is not a shape", hint="Expected is NxCxHxW, for example 1x3x224x224.")
    return tuple(int(part) for part in text.lower().split("x"))


def parse_target(name: str | None) -> Target:
    """Whom the graph is for.

    Raises:
        UsageError: nobody that is known.
    """
    known = [target.value for target in Target if target is not Target.ANY]
    if name is None:
        return Target.ANY
    if name not in known:
        raise UsageError(f"--for {name}: there is no such target", hint=f"Known are {', '.join(known)}.")
    return Target(name)


def parse_device(name: str) -> str:
    """Where runtimes run.

    Raises:
        UsageError: there is no such device.
    """
    if name not in DEVICES:
        raise UsageError(f"--device {name}: there is no such device", hint=f"Known are {', '.join(DEVICES)}.")
    return name


def parse_budget_options(values: list[str] | None) -> "tuple[Budget, ...]":
    """Of `--budget`.

    Raises:
        UsageError: one can't be understood.
    """
    if not values:
        return ()
    from attn_export.exporter.budgets.parse import parse_budgets
    from attn_export.exporter.runtimes import RUNS_ENGINES, RUNTIMES

    parts = split(values)
    if not parts:
        raise UsageError("--budget names none", hint="For example --budget latency=3ms.")
    return parse_budgets(parts, (*RUNTIMES, *RUNS_ENGINES))
