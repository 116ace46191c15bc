"""The artifacts of a bench, with the images that they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attn_export.exporter.artifacts import Axis, OnnxFile, Signature
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.errors import InputError, RuntimeUnavailableError
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import unique_names
from attn_export.exporter.validation.artifact import numpy_name, read_artifact
from attn_export.exporter.validation.matching import FLOATS

AXES = ("batch", "channels", "height", "width")
IMAGE = "1x3x224x224"


@dataclass(frozen=True)
class BenchInput:
    """An artifact to be timed.

    Attributes:
        artifact: the file.
        name: in reports; no two artifacts have the same.
        signature: of the first timed batch.
        file: the ONNX file with its attention blocks; None for an engine.
    """

    artifact: Artifact
    name: str
    signature: Signature
    file: OnnxFile | None


def read_inputs(
    paths: Sequence[Path], batches: Sequence[int], image: tuple[int, ...] | None, *, trust: bool
) -> tuple[list[BenchInput], tuple[int, ...]]:
    """Read the artifacts of a bench.

    Args:
        paths: ONNX files and engines.
        batches: N of each run; empty for the batch that the files fix, or 1.
        image: (C, H, W); None takes it from the artifacts.
        trust: accept engines that were changed after they were built.

    Returns:
        The artifacts, and N of each run.

    Raises:
        InputError: an artifact can't be read, doesn't take these images, or takes others than the first.
        RuntimeUnavailableError: there is no GPU for an engine.
    """
    artifacts = [read_artifact(path, trust=trust) for path in paths]
    _refuse_engines_without_gpu(artifacts)
    batches = tuple(batches) or (_fixed_batch(artifacts),)
    signatures = [_signature_of(artifact, batches, image) for artifact in artifacts]
    _refuse_different_images(artifacts, signatures)
    inputs = []
    for artifact, name, signature in zip(artifacts, unique_names(paths), signatures, strict=True):
        parsed = artifact.parsed
        file = artifact.as_file(signature, blocks=blocks_of(parsed), label=name) if parsed else None
        inputs.append(BenchInput(artifact, name, signature, file))
    return inputs, batches


def _fixed_batch(artifacts: Sequence[Artifact]) -> int:
    """N of the first artifact that doesn't take 1: an ONNX file's fixed N, an engine's opt N. 1 if all take 1."""
    for artifact in artifacts:
        if artifact.range is not None and artifact.range.min[0] > 1:
            return artifact.range.opt[0]
        dims = artifact.inputs[0].dims if artifact.inputs and artifact.range is None else None
        if dims and isinstance(dims[0], int) and dims[0] > 0:
            return dims[0]
    return 1


def _refuse_engines_without_gpu(artifacts: Sequence[Artifact]) -> None:
    """Refuse engines on a machine without a GPU.

    Raises:
        RuntimeUnavailableError: there is an engine, and no GPU.
    """
    engines = [artifact.path for artifact in artifacts if artifact.parsed is None]
    if engines and not gpus.found():
        raise RuntimeUnavailableError(
            f"{engines[0]} can't be timed here: there is no GPU, or no driver for it",
            runtime="tensorrt",
            hint="Leave it out, or run this on the device: an engine's latency is that of its GPU.",
        )


def _refuse_different_images(artifacts: Sequence[Artifact], signatures: Sequence[Signature]) -> None:
    """Refuse artifacts that don't take the same images: they would do different work.

    Raises:
        InputError: two artifacts take images of different sizes.
    """
    for artifact, signature in zip(artifacts, signatures, strict=True):
        image, first = signature.input_shape[1:], signatures[0].input_shape[1:]
        if image != first:
            raise InputError(
                f"{artifacts[0].path} takes images of {'x'.join(map(str, first))}, and {artifact.path} of "
                f"{'x'.join(map(str, image))}: they can't be timed against each other",
                hint="Time them one after the other, or say one size that both take with --input.",
            )


def _signature_of(artifact: Artifact, batches: Sequence[int], image: tuple[int, ...] | None) -> Signature:
    """The input and outputs of an artifact, for the first batch.

    Raises:
        InputError: it takes something else than these images, or doesn't say their size and ``image`` is None.
    """
    if len(artifact.inputs) != 1:
        names = ", ".join(map(str, artifact.inputs)) or "nothing"
        raise InputError(f"{artifact.path} takes {names}", hint="What can be timed takes one batch of images.")
    (taken,) = artifact.inputs
    if (dtype := numpy_name(taken.dtype)) not in ("", *FLOATS):
        raise InputError(f"{artifact.path} takes {taken} as {dtype}", hint="What can be timed takes floats.")
    dims = taken.dims or (None,) * (len(image or ()) + 1)
    sizes = image or (artifact.range.opt if artifact.range else dims)[1:]
    known = tuple(size for size in sizes if isinstance(size, int) and size > 0)
    if not sizes or len(known) < len(sizes):
        raise InputError(
            f"{artifact.path} takes {taken}, and nothing says how large its images are", hint=f"Say it: --input {IMAGE}"
        )
    for batch in batches:
        _refuse_other_shape(artifact, (batch, *known))
    axes = tuple(Axis(AXES[i] if i < len(AXES) else f"axis_{i}", i) for i, d in enumerate(dims) if not _fixed(d))
    return Signature(taken.name, (batches[0], *known), axes, tuple(output.name for output in artifact.outputs))


def _fixed(size: object) -> bool:
    return isinstance(size, int) and size > 0


def _refuse_other_shape(artifact: Artifact, shape: tuple[int, ...]) -> None:
    (taken,) = artifact.inputs
    if artifact.range is not None:
        fits, accepted = artifact.range.covers(shape), f"{artifact.range.min} to {artifact.range.max}"
    else:
        dims = taken.dims if taken.dims is not None else (None,) * len(shape)
        fits = len(dims) == len(shape) and all(not _fixed(d) or d == n for d, n in zip(dims, shape, strict=True))
        accepted = str(taken)
    if not fits:
        raise InputError(
            f"{artifact.path} takes {accepted}, and {'x'.join(map(str, shape))} was to be timed",
            hint="Choose other batches or another --input, or export with these axes open.",
        )
