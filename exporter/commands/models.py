"""The command `attn-export models`."""

from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Shown


def models(shown: Shown) -> None:
    """List the networks that can be built, with their sizes and what attention adds."""
    with make_progress(shown.quiet) as progress, progress.stage("Counting") as advance:
        from attn_export.models.complexity import survey

        rows = list(survey(advance))
    from attn_export.exporter.records.document import SCHEMA_VERSION
    from attn_export.exporter.report.terminal import models_parts

    print_result({"schema_version": SCHEMA_VERSION, "models": rows}, models_parts(rows), as_json=shown.as_json)
