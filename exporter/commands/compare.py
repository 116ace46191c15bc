"""The command `attn-export compare old.report.json new.report.json`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attn_export.exporter.commands.console import make_progress, print_json, print_parts, stdout
from attn_export.exporter.commands.latency_options import report_paths
from attn_export.exporter.commands.options import AsJson, Budgets, Debug, Quiet, parse_budget_options
from attn_export.exporter.errors import UsageError

if TYPE_CHECKING:
    from attn_export.exporter.records.compare import ComparisonReport

MARKDOWN, JSON = ".md", ".json"


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The earlier report.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The later one.", show_default=False)],
    slower: Annotated[str, typer.Option(help="How much slower anything may be than before.", metavar="PERCENT")] = "5%",
    budgets: Budgets = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            help="Write it to a file too: .md for a pull request, or .json.",
            show_default=False,
            metavar="FILES",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare the latencies of two reports of the same network.

    Exit code 1 if something got slower by more than is allowed, or a budget
    is broken, in either case beyond noise; 3 if the reports can't be
    compared.

    A change counts where the latency and its ratio to the run's baseline
    both show it. From another machine only ratios are compared.
    """
    allowed, limits = parse_slower(slower), parse_budget_options(budgets)
    written = report_paths(reports)
    refuse_reports(written, (old, new))
    with make_progress(quiet) as progress, progress.stage("Comparing"):
        from attn_export.exporter.budgets.check import check_budgets, failure
        from attn_export.exporter.comparison.compare import compare as compared
        from attn_export.exporter.comparison.compare import comparison_report
        from attn_export.exporter.comparison.read import read_report
        from attn_export.exporter.report.terminal import comparison_parts

        result = compared(read_report(old), read_report(new), allowed)
        checked = check_budgets(result.new.record, limits)
        error = failure(checked, result.broken)
        document = comparison_report(result, checked, error)
        for note in result.notes:
            progress.note(note)
    for path in written:
        write_report(path, document)
    if as_json:
        print_json(document)
        if error is not None:
            raise typer.Exit(error.exit_code)
        return
    print_parts(comparison_parts(document))
    for path in written:
        stdout().print(str(path), style="bold")
    if error is not None:
        raise error


def parse_slower(text: str) -> float:
    """``5%`` or ``5`` -> 0.05.

    Raises:
        UsageError: it is no percentage.
    """
    found = re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+)\s*%?\s*", text)
    if not found:
        raise UsageError(f"--slower {text!r} is no percentage", hint="For example --slower 5%.")
    return float(found[1]) / 100


def refuse_reports(paths: Sequence[Path], read: tuple[Path, ...]) -> None:
    """Before anything is read: what `--report` can't be.

    Raises:
        UsageError: one is of no known form, asked for twice, or one of the reports that are compared.
    """
    taken = [other.resolve() for other in read]
    for path in paths:
        if path.suffix not in (MARKDOWN, JSON):
            raise UsageError(
                f"--report {path}: expected is a name that ends in .md or .json",
                hint="For example --report compare.md.",
            )
        if path.resolve() in taken[len(read) :]:
            raise UsageError(f"--report {path} is asked for twice", hint="Name each report once.")
        if path.resolve() in taken:
            raise UsageError(f"--report {path} would replace a report that is compared", hint="Choose another name.")
        taken.append(path.resolve())


def write_report(path: Path, document: "ComparisonReport") -> None:
    """Write the document, or its Markdown.

    Raises:
        OutputError: it can't be written.
    """
    from attn_export.exporter.records.document import encode
    from attn_export.exporter.report.markdown import render_comparison
    from attn_export.exporter.system.files import write_text, written_atomically

    text = render_comparison(document) if path.suffix == MARKDOWN else encode(document)
    with written_atomically(path) as temporary:
        write_text(temporary, text)
