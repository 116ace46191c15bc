"""The command `attn-export compare old.report.json new.report.json`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Shown
from attn_export.exporter.errors import BudgetError


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The earlier report.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The later one.")],
    *,
    slower: Annotated[str, typer.Option(help="By how much a latency may grow.", metavar="PERCENT")] = "5%",
    budgets: options.Budgets = None,
    reports: Annotated[
        list[Path] | None, typer.Option("--report", help="Also write a report (md, json).", metavar="FILES")
    ] = None,
    shown: Shown,
) -> None:
    """Compare the latencies of two reports of the same network.

    Exit code 1 if a latency grew by more than is allowed, or a budget is
    broken, in either case beyond noise; 3 if the reports can't be compared.

    A change counts where the latency and its ratio to the run's baseline
    both show it. From another machine only ratios are compared.
    """
    allowed, limits = parse.parse_percent("--slower", slower), parse.parse_budget_options(budgets)
    written = parse.report_paths(reports)
    with make_progress(shown.quiet) as progress, progress.stage("Comparing"):
        from attn_export.exporter.comparison.compare import compare as compare_reports
        from attn_export.exporter.comparison.read import read_timed_report
        from attn_export.exporter.report.terminal import comparison_parts
        from attn_export.exporter.report.write import COMPARISON_FORMATS, check_reports, write_reports

        check_reports(written, COMPARISON_FORMATS, sources=(old, new))
        comparison = compare_reports(read_timed_report(old), read_timed_report(new), allowed, limits)
        for note in comparison.notes:
            progress.note(note)
        write_reports(comparison, written, COMPARISON_FORMATS)
    error = BudgetError(comparison.error.message, hint=comparison.error.hint) if comparison.error else None
    print_result(comparison, comparison_parts(comparison), as_json=shown.as_json, reports=written, error=error)
