"""Adds to a network what its artifacts do besides: preprocessing, postprocessing, names of classes."""

from dataclasses import dataclass, replace
from pathlib import Path

from attn_export.exporter.artifacts import LoadedModel, Normalization, Postprocessing, Preprocessing
from attn_export.exporter.errors import InputError, UsageError


@dataclass(frozen=True)
class ServedOptions:
    """What the artifacts of a network take and return.

    Attributes:
        pixels: layout and order of channels, see `Preprocessing`; None: what the network takes.
        normalization: None for that of the checkpoint.
        postprocessing: None: what the network returns.
        labels: file with the names of the classes; None for those of the checkpoint.
    """

    pixels: tuple[str, str] | None = None
    normalization: Normalization | None = None
    postprocessing: Postprocessing | None = None
    labels: Path | None = None


def as_served(model: LoadedModel, options: ServedOptions) -> LoadedModel:
    """The network as its artifacts are to be.

    Raises:
        UsageError: nothing says how the network's images are normalized.
        InputError: an option doesn't fit the network; the file of labels can't be read.
    """
    if options.normalization is not None:
        model = replace(model, normalization=options.normalization)
    if options.labels is not None:
        model = replace(model, class_names=_labels(model, options.labels))
    if options.pixels is not None:
        model = _with_pixels(model, *options.pixels)
    if options.postprocessing is not None:
        from attn_export.exporter.network.served import with_postprocessing

        model = with_postprocessing(model, options.postprocessing)
    return model


def _with_pixels(model: LoadedModel, layout: str, order: str) -> LoadedModel:
    from attn_export.exporter.network.served import with_preprocessing

    if model.normalization is None:
        raise UsageError(
            f"nothing says how the images of {model.name} are normalized",
            hint="Say it, for pixels in 0..1: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; or --mean 0 --std 1 if "
            "they aren't.",
        )
    return with_preprocessing(model, Preprocessing(layout, order, model.normalization))


def _labels(model: LoadedModel, path: Path) -> tuple[str, ...]:
    from attn_export.exporter.network.labels import read_labels
    from attn_export.exporter.network.served import classes_of

    names, classes = read_labels(path), classes_of(model)
    if len(names) != classes:
        raise InputError(
            f"{path} names {len(names)} classes, and {model.name} knows {classes}",
            hint="Give a file with one name for each output of the network.",
        )
    return names
