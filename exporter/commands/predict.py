"""The command `attn-export predict model.onnx photo.jpg`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.artifacts import names_network
from attn_export.exporter.commands import options
from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Loading, Pictures, Shown
from attn_export.exporter.errors import UsageError


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT... IMAGE...", help="Checkpoints and ONNX files; pictures, or a folder."),
    ],
    *,
    top: Annotated[int, typer.Option(min=1, max=100, help="Number of classes for each image.")] = 5,
    labels: options.ClassNames = None,
    pictures: Pictures,
    loading: Loading,
    threads: options.Threads = None,
    shown: Shown,
) -> None:
    """Compare the predictions of artifacts on pictures.

    The likeliest classes of each picture, from every checkpoint and ONNX file.
    Mean, standard deviation and class names are those of the checkpoint, which
    an export writes into its files.
    """
    with make_progress(shown.quiet) as progress:
        from attn_export.exporter.network.labels import read_labels
        from attn_export.exporter.report.terminal import prediction_parts
        from attn_export.exporter.workflows.predict import PredictSettings, is_artifact
        from attn_export.exporter.workflows.predict import predict as ask

        artifacts = [path for path in paths if is_artifact(path)]
        images = [path for path in paths if path not in artifacts]
        if not artifacts or not images:
            lacking = "artifact" if not artifacts else "image"
            raise UsageError(f"no {lacking} was named", hint="attn-export predict model.onnx photo.jpg")
        settings = PredictSettings(
            class_names=read_labels(labels) if labels else (),
            top=top,
            pictures=pictures.parse(images),
            loading=loading.parse(next(filter(names_network, artifacts), None)),
            threads=threads,
        )
        summary = ask(artifacts, images, settings=settings, progress=progress)
    print_result(summary, prediction_parts(summary), as_json=shown.as_json)
