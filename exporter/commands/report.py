"""The command `attn-export report old.report.json --report page.html`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Shown


def report(
    source: Annotated[Path, typer.Argument(help="The JSON report of an earlier run.")],
    *,
    reports: options.Reports = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Log it to this MLflow server too.", show_default=False)
    ] = None,
    shown: Shown,
) -> None:
    """Render the report of an earlier run again, as a page, as Markdown or in the terminal."""
    written = parse.report_paths(reports)
    with make_progress(shown.quiet) as progress, progress.stage("Reading the report"):
        from attn_export.exporter.report.read import read_report
        from attn_export.exporter.report.terminal import export_parts
        from attn_export.exporter.report.write import check_reports, write_reports

        check_reports(written)
        record = read_report(source)
        write_reports(record, written)
    if mlflow is not None:
        with make_progress(shown.quiet) as progress, progress.stage(f"Logging to {mlflow}"):
            from attn_export.exporter.workflows.tracking import log

            log(record, source, mlflow)
    print_result(record, () if written else export_parts(record), as_json=shown.as_json, reports=written)
