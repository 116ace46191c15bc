"""The command `attn-export report old.report.json --report page.html`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import make_progress, print_json, print_parts, stdout
from attn_export.exporter.commands.latency_options import Reports, report_paths
from attn_export.exporter.commands.options import AsJson, Debug, Quiet


def report(
    source: Annotated[Path, typer.Argument(help="The JSON report of an earlier run.", show_default=False)],
    reports: Reports = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Render the report of an earlier run again, as a page, as Markdown or in the terminal."""
    written = report_paths(reports)
    with make_progress(quiet) as progress, progress.stage("Reading the report"):
        from attn_export.exporter.report.read import read_report
        from attn_export.exporter.report.write import check_reports, write_reports

        check_reports(written)
        found = read_report(source)
        write_reports(found, written)
    if as_json:
        print_json(found)
        return
    if not written:
        from attn_export.exporter.report.terminal import export_parts

        print_parts(export_parts(found))
    for path in written:
        stdout().print(str(path), style="bold")
