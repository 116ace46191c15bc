"""The section on where the record was made, and how to make it again."""

from typing import Any

from attn_export.exporter.report.findings import environment as findings
from attn_export.exporter.report.page.section import Section


def section(record: dict[str, Any]) -> Section:
    """The command line, files with hashes, the machine, versions."""
    return Section(
        "environment",
        "Environment, and how to reproduce this",
        "Environment",
        {
            "command": findings.command_line(record),
            "files": findings.file_table(record),
            "machine": findings.machine_table(record),
            "packages": findings.package_table(record),
            "notes": findings.notes_of(record),
        },
    )
