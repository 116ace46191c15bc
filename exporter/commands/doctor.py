"""The command `attn-export doctor`."""

from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Shown


def doctor(shown: Shown) -> None:
    """Show this machine, the jobs that it can do, and how to install missing parts."""
    with make_progress(shown.quiet) as progress, progress.stage("Looking at this machine") as advance:
        from attn_export.exporter.system.survey import survey

        found = survey(advance)
    from attn_export.exporter.records.document import SCHEMA_VERSION
    from attn_export.exporter.report.terminal import doctor_parts

    print_result({"schema_version": SCHEMA_VERSION, **found.to_dict()}, doctor_parts(found), as_json=shown.as_json)
