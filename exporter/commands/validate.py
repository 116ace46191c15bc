"""The command `attn-export validate model.sm87.kit.zip model.engine`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import SCHEMA_VERSION, listener, print_json, stdout
from attn_export.exporter.commands.options import AsJson, Debug, Quiet, Threads


def validate(
    kit: Annotated[Path, typer.Argument(help="A build kit, or the folder it was extracted to.", show_default=False)],
    artifact: Annotated[Path, typer.Argument(help="An engine, or an ONNX file.", show_default=False)],
    threads: Threads = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load an engine without a record. An engine is a program.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare an engine with the results in its build kit.

    The kit's images run on the GPU, and every output is judged by the limits
    that were measured where the kit was written. An ONNX file runs in ONNX
    Runtime.
    """
    with listener(quiet) as progress:
        from attn_export.exporter.kit.validating import disagreement, validate_with_kit
        from attn_export.exporter.report.judgements import judgement_caption, judgement_record, judgement_table

        read, judgement = validate_with_kit(kit, artifact, trust=trust, threads=threads, progress=progress)
    document = {"schema_version": SCHEMA_VERSION, **judgement_record(read, artifact, judgement)}
    error = disagreement(read.sample, artifact, judgement)
    if not as_json:
        stdout().print(judgement_table(document))
        stdout().print(judgement_caption(document))
        if error is not None:
            raise error
        return
    if error is not None:
        said = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        print_json({**document, "error": said})
        raise typer.Exit(error.exit_code)
    print_json(document)
