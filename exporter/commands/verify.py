"""The command `attn-export verify DIR`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Shown


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A device folder, or a signed model of a repository.")],
    *,
    key: Annotated[Path | None, Option(help="Public key of the signer, in PEM.", show_default="digests only")] = None,
    shown: Shown,
) -> None:
    """Compare every file of a package with its digest and signature.

    Exit code 1 if a file was changed, removed or added, or the
    signature is of another key.
    """
    with make_progress(shown.quiet) as progress, progress.stage("Comparing the files with their digests"):
        from attn_export.exporter.report.terminal import verify_parts
        from attn_export.exporter.workflows.verify import verify_folder

        result = verify_folder(folder, key)
    print_result(result, verify_parts(result), as_json=shown.as_json)
