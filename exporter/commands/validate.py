"""The commands `attn-export validate model.pt ARTIFACT…` and `attn-export validate BUNDLE ARTIFACT…`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import command_line, load_checkpoint, make_progress, print_result
from attn_export.exporter.commands.groups import LoadingBesideEngines, Pictures, Shown, given
from attn_export.exporter.errors import UsageError


def validate(
    ctx: typer.Context,
    reference: Annotated[
        Path, typer.Argument(metavar="MODEL|BUNDLE", help="model.pt, timm:NAME, or a deployment bundle.")
    ],
    artifacts: Annotated[list[Path], typer.Argument(help="ONNX files and engines.")],
    *,
    loading: LoadingBesideEngines,
    images: options.Images = None,
    pictures: Pictures,
    evaluation: options.Evaluate = None,
    labels: options.ClassNames = None,
    requirement: options.Require = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Use cached reference outputs.")] = True,
    threads: options.Threads = None,
    reports: options.Reports = None,
    shown: Shown,
) -> None:
    """Compare ONNX files and engines with the network they were exported from.

    The reference is the network in float64. The verdict rests on the error
    ratio: the artifact's error / PyTorch's own error on the same images. Exit
    code 1 if one disagrees; the first divergent layer is named.

    With a deployment bundle its golden outputs are the reference; no PyTorch is needed.
    """
    sources = [*(images or ()), *([evaluation] if evaluation else [])]
    preprocessing = pictures.parse(sources)
    if names_bundle(reference):
        named = {"--images": images, "--eval": evaluation, "--labels": labels, "--require": requirement}
        parse.refuse(
            {**named, "--report": reports, **given(loading, but=["trust"])},
            "for a checkpoint, and a deployment bundle was given",
            "Leave it out.",
        )
        validate_against_bundle(reference, artifacts, threads=threads, trust=loading.trust, shown=shown)
        return
    refuse_swapped(reference, artifacts)
    how, written = loading.parse(reference), parse.report_paths(reports)
    with make_progress(shown.quiet) as progress:
        from attn_export.exporter.network.labels import read_labels
        from attn_export.exporter.report.terminal import validation_parts
        from attn_export.exporter.report.write import check_reports, write_reports
        from attn_export.exporter.validation.accuracy import missed
        from attn_export.exporter.validation.cache import Cache
        from attn_export.exporter.validation.quantized import parse_requirement
        from attn_export.exporter.workflows.record import validation_summary
        from attn_export.exporter.workflows.validate import ValidationSettings, failure, validation
        from attn_export.exporter.workflows.validation_report import report_of_validation

        check_reports(written)
        required = parse_requirement(parse.split(requirement))
        model = load_checkpoint(reference, progress, how)
        settings = ValidationSettings(
            threads=threads,
            trust=how.trust,
            images=images or None,
            pictures=preprocessing,
            evaluation=evaluation,
            class_names=read_labels(labels) if labels else (),
            requirement=required,
            cache=Cache() if cache else None,
        )
        done = validation(model, artifacts, settings, progress)
        if written:
            report = report_of_validation(done, threads=threads, command=command_line(ctx), progress=progress)
            write_reports(report, written)
    source = done.images.source if done.images else None
    document = validation_summary(done.model, done.results, source, done.evaluation)
    error = failure(done.results) or missed(done.evaluation)
    print_result(document, validation_parts(document), as_json=shown.as_json, reports=written, error=error)


def validate_against_bundle(
    bundle: Path, artifacts: list[Path], *, threads: int | None, trust: bool, shown: Shown
) -> None:
    """Compare one artifact with the golden outputs of a bundle. Raises UsageError: there are several."""
    if len(artifacts) > 1:
        raise UsageError("a deployment bundle is compared with one artifact", hint="Validate them one by one.")
    (artifact,) = artifacts
    with make_progress(shown.quiet) as progress:
        from attn_export.exporter.report.terminal import bundle_parts
        from attn_export.exporter.workflows.record import bundle_validation
        from attn_export.exporter.workflows.validate_bundle import validate_with_bundle

        read, verdict, error = validate_with_bundle(bundle, artifact, trust=trust, threads=threads, progress=progress)
    document = bundle_validation(read, artifact, verdict)
    print_result(document, bundle_parts(document), as_json=shown.as_json, error=error)


def names_bundle(path: Path) -> bool:
    """Whether the reference is a bundle; torch's checkpoints are zip files too, with another ending."""
    from attn_export.exporter.bundle.read import is_bundle

    return is_bundle(path) or path.is_dir()


def refuse_swapped(reference: Path, artifacts: list[Path]) -> None:
    """The checkpoint comes first. Raises UsageError: an artifact does."""
    if reference.suffix.lower() in (".onnx", ".engine"):
        shown = next((path for path in artifacts if path.suffix.lower() in (".pt", ".pth")), "model.pt")
        raise UsageError(
            f"{reference} is an artifact, and the reference comes first",
            hint=f"attn-export validate {shown} {reference}",
        )
