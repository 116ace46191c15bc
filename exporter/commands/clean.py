"""The command `attn-export clean in.onnx -o out.onnx`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attn_export.exporter.commands.console import listener, print_with_error, stdout
from attn_export.exporter.commands.options import AsJson, Debug, For, Quiet, Threads, parse_target
from attn_export.exporter.errors import CleanupError

if TYPE_CHECKING:
    from attn_export.exporter.cleanup.apply import Undone


def clean(
    source: Annotated[Path, typer.Argument(help="Any ONNX file of opset 11 and up.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--output", help="The cleaned file.", show_default=False)],
    target: For = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how often each rule fired, and why it didn't where it nearly did.")
    ] = False,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Clean an ONNX file; every rewrite is proven.

    The same function in the form that suits what runs it. Each rewrite is proven in float64 before it takes place, and
    the result is compared with the file it was made of.
    """
    graph_for = parse_target(target)
    with listener(quiet) as progress:
        from attn_export.exporter.cleaning import clean_file
        from attn_export.exporter.report.record import clean_record

        result = clean_file(source, out, target=graph_for, threads=threads, progress=progress)
    if as_json:
        print_with_error(clean_record(result), error_of(result.cleaned.undone))
    else:
        from attn_export.exporter.report.graphs import clean_summary, explanation_tables, inventory_table

        parts = [*(explanation_tables(result.cleaned) if explain else ()), inventory_table(result.cleaned.blocks)]
        for part in [*parts, clean_summary(result)]:
            stdout().print(part)
        refuse_undone(result.cleaned.undone)


def refuse_undone(undone: "Sequence[Undone]") -> None:
    """End with an error where rules were wrong, although the result, without them, is right.

    Raises:
        CleanupError: for the first rule.
    """
    error = error_of(undone)
    if error is not None:
        raise error


def error_of(undone: "Sequence[Undone]") -> CleanupError | None:
    """What is to be said of rules that were wrong, None if there were none."""
    if undone:
        first, count = undone[0], len(undone)
        return CleanupError(
            f"the rule {first.rule!r} would have changed the result at {first.place} by {first.error:.1e} "
            f"({first.limit:.1e} is allowed); {count} rewrite{'s were' if count > 1 else ' was'} left undone",
            step=first.rule,
            hint="The file was written without it, and is right. The rule is not: please report it with the file.",
        )
    return None
