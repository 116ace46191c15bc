"""The commands `attn-export validate model.pt ARTIFACT…` and `attn-export validate KIT ARTIFACT…`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attn_export.exporter.commands.console import SCHEMA_VERSION, listener, print_json, stdout
from attn_export.exporter.commands.options import AsJson, Debug, Quiet, Threads, parse_shape, split
from attn_export.exporter.errors import AttnExportError, UsageError


def validate(
    reference: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT|KIT", help="model.pt, or a build kit.", show_default=False)
    ],
    artifacts: Annotated[list[Path], typer.Argument(help="ONNX files and engines.", show_default=False)],
    arch: Annotated[
        str | None, typer.Option(help="Architecture of a bare state dict, such as cbam_resnet50.", show_default=False)
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="1x3x224x224; by default as the checkpoint says.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Real images too, 16 at most: .npy or .npz with (N, C, H, W) as the network takes them.",
            show_default=False,
        ),
    ] = None,
    promise: Annotated[
        list[str] | None,
        typer.Option(
            help="What an int8 file has to keep: sqnr=20,agreement=0.99", show_default=False, metavar="NAME=VALUE"
        ),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Use results of the checkpoint that were computed before.")
    ] = True,
    threads: Threads = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Run code that the checkpoint holds; load an engine without a record."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare ONNX files and engines with the network they were made of.

    The network runs in float64, and each artifact on the same images. What
    counts is how many times PyTorch's own error an artifact's is. Exit code 1
    if one disagrees; the block where its error starts is named.

    With a build kit its results are the reference, and no PyTorch is needed.
    """
    if names_kit(reference):
        refuse_with_kit({"--arch": arch, "--input": input_shape, "--images": images, "--promise": promise})
        if len(artifacts) > 1:
            raise UsageError("a build kit is compared with one artifact", hint="Name one, and then the other.")
        with listener(quiet) as progress:
            from attn_export.exporter.kit.validating import disagreement, validate_with_kit
            from attn_export.exporter.report.judgements import judgement_caption, judgement_record, judgement_table

            kit, judgement = validate_with_kit(reference, artifacts[0], trust=trust, threads=threads, progress=progress)
        document = {"schema_version": SCHEMA_VERSION, **judgement_record(kit, artifacts[0], judgement)}
        parts = [judgement_table, judgement_caption]
        error: AttnExportError | None = disagreement(kit.sample, artifacts[0], judgement)
    else:
        shape = parse_shape(input_shape)
        refuse_swapped(reference, artifacts)
        if trust:  # a module's code is usually beside the place where it was trained
            sys.path.insert(0, str(Path.cwd()))
        with listener(quiet) as progress:
            from attn_export.exporter.checkpoint import load
            from attn_export.exporter.report.verdicts import (
                quality_lines,
                validated_caption,
                validated_record,
                validated_table,
            )
            from attn_export.exporter.validating import failure, validate_artifacts
            from attn_export.exporter.validation.cache import default_cache
            from attn_export.exporter.validation.quantized import parse_promise
            from attn_export.exporter.validation.real_images import read_images

            promised = parse_promise(split(promise))
            with progress.stage("Reading the checkpoint"):
                model = load(reference, arch=arch, input_shape=shape[1:] if shape else None, trust=trust)
            for note in model.notes:
                progress.note(note)
            results = validate_artifacts(
                model,
                artifacts,
                threads=threads,
                trust=trust,
                images=read_images(images, model.input_shape) if images else None,
                promise=promised,
                cache=default_cache() if cache else None,
                progress=progress,
            )
        document = validated_record(model, results)
        parts = [validated_table, validated_caption, *([quality_lines] if any(r.quality for r in results) else [])]
        error = failure(results)
    if as_json:
        said = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code} if error else None
        print_json({**document, "error": said} if said else document)
        if error is not None:
            raise typer.Exit(error.exit_code)
        return
    for part in parts:
        stdout().print(part(document))
    if error is not None:
        raise error


def names_kit(path: Path) -> bool:
    """Whether what is compared with is a kit: torch's checkpoints are zip files too, and go by another name."""
    from attn_export.exporter.kit.read import is_kit

    return is_kit(path) or path.is_dir()


def refuse_swapped(reference: Path, artifacts: list[Path]) -> None:
    """The checkpoint comes first.

    Raises:
        UsageError: something else does.
    """
    if reference.suffix.lower() in (".onnx", ".engine"):
        shown = next((path for path in artifacts if path.suffix.lower() in (".pt", ".pth")), "model.pt")
        raise UsageError(
            f"{reference} is an artifact, and what it is compared with comes first",
            hint=f"attn-export validate {shown} {reference}",
        )


def refuse_with_kit(options: dict[str, Any]) -> None:
    """A kit holds what these would tell.

    Raises:
        UsageError: one of them was given.
    """
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} is for a checkpoint, and a build kit was given", hint="Leave it out.")
