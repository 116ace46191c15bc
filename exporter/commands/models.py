"""The command `attn-export models`."""

from attn_export.exporter.commands.console import make_progress, print_json, print_parts
from attn_export.exporter.commands.options import AsJson, Debug, Quiet


def models(as_json: AsJson = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the networks that can be built, with their sizes and what attention adds."""
    with make_progress(quiet) as progress, progress.stage("Counting") as advance:
        from attn_export.models.complexity import survey

        rows = list(survey(advance))
    if as_json:
        from attn_export.exporter.records.document import SCHEMA_VERSION

        print_json({"schema_version": SCHEMA_VERSION, "models": rows})
        return
    from attn_export.exporter.report.terminal import models_parts

    print_parts(models_parts(rows))
