"""The command `attn-export compare old.report.json new.report.json`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import make_progress, print_json, print_parts, stdout
from attn_export.exporter.commands.latency_options import report_paths
from attn_export.exporter.commands.options import AsJson, Budgets, Debug, Quiet, parse_budget_options
from attn_export.exporter.errors import BudgetError, UsageError


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The earlier report.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The later one.", show_default=False)],
    slower: Annotated[str, typer.Option(help="By how much a latency may grow.", metavar="PERCENT")] = "5%",
    budgets: Budgets = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option("--report", help="Also write a report (md, json).", show_default=False, metavar="FILES"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare the latencies of two reports of the same network.

    Exit code 1 if a latency grew by more than is allowed, or a budget is
    broken, in either case beyond noise; 3 if the reports can't be compared.

    A change counts where the latency and its ratio to the run's baseline
    both show it. From another machine only ratios are compared.
    """
    allowed, limits, written = parse_slower(slower), parse_budget_options(budgets), report_paths(reports)
    with make_progress(quiet) as progress, progress.stage("Comparing"):
        from attn_export.exporter.comparison.compare import compare as compare_reports
        from attn_export.exporter.comparison.read import read_timed_report
        from attn_export.exporter.report.write import COMPARISON_FORMATS, check_reports, write_reports

        check_reports(written, COMPARISON_FORMATS, sources=(old, new))
        comparison = compare_reports(read_timed_report(old), read_timed_report(new), allowed, limits)
        for note in comparison.notes:
            progress.note(note)
        write_reports(comparison, written, COMPARISON_FORMATS)
    error = comparison.error
    if as_json:
        print_json(comparison)
        raise typer.Exit(error.exit_code if error else 0)
    from attn_export.exporter.report.terminal import comparison_parts

    print_parts(comparison_parts(comparison))
    for path in written:
        stdout().print(str(path), style="bold")
    if error is not None:
        raise BudgetError(error.message, hint=error.hint)


def parse_slower(text: str) -> float:
    """``5%`` or ``5`` -> 0.05.

    Raises:
        UsageError: it is no percentage.
    """
    found = re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+)\s*%?\s*", text)
    if not found:
        raise UsageError(f"--slower {text!r} is no percentage", hint="For example --slower 5%.")
    return float(found[1]) / 100
