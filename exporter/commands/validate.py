"""The commands `attn-export validate model.pt ARTIFACT…` and `attn-export validate BUNDLE ARTIFACT…`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_export.exporter.commands.console import command_line, make_progress, print_parts, print_with_error, stdout
from attn_export.exporter.commands.latency_options import Reports, report_paths
from attn_export.exporter.commands.options import AsJson, Debug, Quiet, Threads, parse_shape, split
from attn_export.exporter.errors import AttnExportError, UsageError

if TYPE_CHECKING:
    from attn_export.exporter.report.terminal import Part


def validate(
    ctx: typer.Context,
    reference: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT|BUNDLE", help="model.pt, or a deployment bundle.", show_default=False)
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
    requirement: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            help="What an int8 file has to keep: sqnr=20,agreement=0.99",
            show_default=False,
            metavar="NAME=VALUE",
        ),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Use results of the checkpoint that were computed before.")
    ] = True,
    threads: Threads = None,
    reports: Reports = None,
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

    With a deployment bundle its results are the reference, and no PyTorch is needed.
    """
    if names_bundle(reference):
        refuse_with_bundle(
            {"--arch": arch, "--input": input_shape, "--images": images, "--require": requirement, "--report": reports}
        )
        outcome = against_bundle(reference, artifacts, threads=threads, trust=trust, quiet=quiet)
    else:
        refuse_swapped(reference, artifacts)
        shape, written = parse_shape(input_shape), report_paths(reports)
        if trust:  # a module's code is usually beside the place where it was trained
            sys.path.insert(0, str(Path.cwd()))
        with make_progress(quiet) as progress:
            from attn_export.exporter.checkpoint.load import load
            from attn_export.exporter.network.real_images import read_images
            from attn_export.exporter.report.terminal import validation_parts
            from attn_export.exporter.report.write import check_reports, write_reports
            from attn_export.exporter.validation.cache import default_cache
            from attn_export.exporter.validation.quantized import parse_requirement
            from attn_export.exporter.workflows.record import validation_summary
            from attn_export.exporter.workflows.validate import failure, report_of_validation, validate_artifacts

            check_reports(written)
            promised = parse_requirement(split(requirement))
            with progress.stage("Reading the checkpoint"):
                model = load(reference, arch=arch, input_shape=shape[1:] if shape else None, trust=trust)
            for note in model.notes:
                progress.note(note)
            real = read_images(images, model.input_shape) if images else None
            results = validate_artifacts(
                model,
                artifacts,
                threads=threads,
                trust=trust,
                images=real,
                requirement=promised,
                cache=default_cache() if cache else None,
                progress=progress,
            )
            if written:
                report = report_of_validation(
                    model, results, threads=threads, images=real, command=command_line(ctx), progress=progress
                )
                write_reports(report, written)
        document = validation_summary(model, results)
        outcome = Outcome(document, validation_parts(document), failure(results), written)
    if as_json:
        print_with_error(outcome.document, outcome.error)
        return
    print_parts(outcome.parts)
    for path in outcome.written:
        stdout().print(str(path), style="bold")
    if outcome.error is not None:
        raise outcome.error


@dataclass(frozen=True)
class Outcome:
    """What is to be printed: a document for machines, or parts for people; what it fails with, and its reports."""

    document: Any
    parts: "Sequence[Part]"
    error: AttnExportError | None
    written: Sequence[Path] = ()


def against_bundle(bundle: Path, artifacts: list[Path], *, threads: int | None, trust: bool, quiet: bool) -> Outcome:
    """Compare one artifact with the golden outputs of a bundle.

    Raises:
        UsageError: there are several.
        AttnExportError: as `validate_with_bundle` says.
    """
    if len(artifacts) > 1:
        raise UsageError("a deployment bundle is compared with one artifact", hint="Name one, and then the other.")
    (artifact,) = artifacts
    with make_progress(quiet) as progress:
        from attn_export.exporter.report.terminal import bundle_parts
        from attn_export.exporter.workflows.record import bundle_validation
        from attn_export.exporter.workflows.validate_bundle import disagreement, validate_with_bundle

        read, verdict = validate_with_bundle(bundle, artifact, trust=trust, threads=threads, progress=progress)
    document = bundle_validation(read, artifact, verdict)
    return Outcome(document, bundle_parts(document), disagreement(artifact, verdict))


def names_bundle(path: Path) -> bool:
    """Whether what is compared with is a bundle: torch's checkpoints are zip files too, and go by another name."""
    from attn_export.exporter.bundle.read import is_bundle

    return is_bundle(path) or path.is_dir()


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


def refuse_with_bundle(options: Mapping[str, object]) -> None:
    """A bundle holds what these would tell.

    Raises:
        UsageError: one of them was given.
    """
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} is for a checkpoint, and a deployment bundle was given", hint="Leave it out.")
