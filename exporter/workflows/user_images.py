"""The user's images for a network or an ONNX file."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from attn_export.exporter.artifacts import NCHW, Input, LoadedModel
from attn_export.exporter.errors import UsageError
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.images.read import Given, ImageSet, read_images
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.workflows.artifact_facts import ArtifactFacts

# Labelled or calibration images on which quantized files are judged where no others are given.
STAND_INS = 8


def inputs_of(model: ir.Model) -> list[Input]:
    """The inputs of a graph; dynamic sizes are 0."""
    values = [value for value in model.graph.inputs if value.const_value is None and value.dtype is not None]
    pixels = ArtifactFacts(model.metadata_props).preprocessing
    layout = pixels.layout if pixels else NCHW
    return [
        Input(str(value.name), _sizes(value), str(value.dtype.numpy()), layout=layout)
        for value in values
        if value.dtype
    ]


def announced(images: ImageSet, progress: Progress) -> ImageSet:
    """The same images, after a note on what is done to them."""
    for sentence in images.source.sentences:
        progress.note(sentence)
    return images


def images_for(model: ir.Model, given: Given | ImageSet, options: PictureOptions | None = None) -> ImageSet:
    """The user's images for a graph, normalized as its metadata say unless the options say it.

    Raises:
        InputError: they can't be read or don't fit.
        UsageError: the graph has no input, or it isn't known how pictures are normalized.
    """
    inputs: Sequence[Input] = inputs_of(model)
    if not inputs:
        raise UsageError("there are images, and the graph has no input", hint="Leave --images out.")
    return read_images(given, inputs, options_of(model, options or PictureOptions()))


def options_of(model: ir.Model, options: PictureOptions) -> PictureOptions:
    """The options, with what a file's metadata say about its pixels."""
    known = ArtifactFacts(model.metadata_props)
    if (pixels := known.preprocessing) is not None:
        return replace(options, normalization=None, order=pixels.order)
    return replace(options, normalization=options.normalization or known.of_pixels)


def images_of(
    model: LoadedModel, given: Given | ImageSet | None, options: PictureOptions, progress: Progress, most: int
) -> ImageSet | None:
    """At most ``most`` of the user's images for a network; None without any.

    Raises:
        InputError: they can't be read or don't fit.
        UsageError: it isn't known how pictures are normalized.
    """
    if given is None:
        return None
    return announced(read_images(given, model.inputs, known_of(model, options)).spread(most), progress)


def known_of(model: LoadedModel, options: PictureOptions) -> PictureOptions:
    """The options, with what a network says of its pixels. Raises UsageError: both of them normalize."""
    if model.preprocessing is None:
        return replace(options, normalization=options.normalization or model.normalization)
    if options.normalization is not None:
        raise UsageError("the artifacts normalize pixels themselves", hint="Leave --mean and --std out.")
    return replace(options, order=model.preprocessing.order)


def _sizes(value: ir.Value) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 0 for size in dims(value) or ())
