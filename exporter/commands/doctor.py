"""The command `attn-export doctor`."""

from attn_export.exporter.commands.console import make_progress, print_json, print_parts
from attn_export.exporter.commands.options import AsJson, Debug, Quiet


def doctor(as_json: AsJson = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Say what this machine has, which jobs it can do, and how to get what is missing."""
    with make_progress(quiet) as progress, progress.stage("Looking at this machine") as advance:
        from attn_export.exporter.system.survey import survey

        found = survey(advance)
    if as_json:
        from attn_export.exporter.records.document import SCHEMA_VERSION

        print_json({"schema_version": SCHEMA_VERSION, **found.to_dict()})
        return
    from attn_export.exporter.report.terminal import doctor_parts

    print_parts(doctor_parts(found))
