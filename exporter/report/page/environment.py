"""The section on where the record was made, and how to make it again."""

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings import environment as findings
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """The command line, files with hashes, the machine, versions."""
    return Section(
        "environment",
        "Environment, and how to reproduce this",
        "Environment",
        {
            "command": findings.command_line(report),
            "files": findings.file_table(report),
            "machine": findings.machine_table(report),
            "packages": findings.package_table(report),
            "notes": findings.notes_of(report),
        },
    )
