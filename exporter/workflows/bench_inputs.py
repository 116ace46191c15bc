"""The artifacts of a bench, with the images that they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attn_export.exporter.artifacts import INPUT_TYPES, Axis, Dim, Input, OnnxFile, Shape, Signature, fixed
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.errors import InputError, RuntimeUnavailableError
from attn_export.exporter.network.axes import axis_name
from attn_export.exporter.records.artifact import Artifact, Tensor
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import unique_names
from attn_export.exporter.validation.artifact import numpy_name, read_artifact

# Files that take other floats get converted float32.
TYPES = (*INPUT_TYPES, "float16", "float64", "bfloat16")
IMAGE = (1, 3, 224, 224)


@dataclass(frozen=True)
class BenchInput:
    """An artifact to be timed, with a distinct name; ``file`` has its attention blocks, None for an engine."""

    artifact: Artifact
    name: str
    signature: Signature
    file: OnnxFile | None


def read_inputs(
    paths: Sequence[Path], batches: Sequence[int], known: Sequence[Input], *, trust: bool
) -> tuple[list[BenchInput], tuple[int, ...]]:
    """Read the artifacts of a bench.

    Without ``batches`` N is what the files fix, or 1; ``known`` inputs are in the artifacts' order.

    Returns:
        The artifacts, and N of each run.

    Raises:
        InputError: an artifact can't be read, doesn't take these images, or takes others than the first.
        RuntimeUnavailableError: there is no GPU for an engine.
    """
    artifacts = [read_artifact(path, trust=trust) for path in paths]
    _refuse_engines_without_gpu(artifacts)
    batches = tuple(batches) or (_fixed_batch(artifacts),)
    signatures = [_signature_of(artifact, batches, known) for artifact in artifacts]
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
        taken = artifact.inputs[0] if artifact.inputs else None
        if taken and artifact.profile is not None and artifact.profile[taken.name].min[0] > 1:
            return artifact.profile[taken.name].opt[0]
        dims = taken.dims if taken and artifact.profile is None else None
        if dims and (size := fixed(dims[0])):
            return size
    return 1


def _refuse_engines_without_gpu(artifacts: Sequence[Artifact]) -> None:
    """Refuse engines on a machine without a GPU."""
    engines = [artifact.path for artifact in artifacts if artifact.parsed is None]
    if engines and not gpus.found():
        raise RuntimeUnavailableError(
            f"{engines[0]} can't be timed here: there is no GPU, or no driver for it",
            hint="Leave it out, or run this on the device: an engine's latency is that of its GPU.",
        )


def _refuse_different_images(artifacts: Sequence[Artifact], signatures: Sequence[Signature]) -> None:
    """Refuse artifacts that don't take the same images: they would do different work."""
    for artifact, signature in zip(artifacts, signatures, strict=True):
        if _in_any_layout(signature) != _in_any_layout(signatures[0]):
            raise InputError(
                f"{artifacts[0].path} takes images of {_sizes(signatures[0])}, and {artifact.path} of "
                f"{_sizes(signature)}: they can't be timed against each other",
                hint="Time them one after the other, or say one size that both take with --input.",
            )


def _sizes(signature: Signature) -> str:
    return ", ".join("x".join(map(str, taken.shape[1:])) for taken in signature.inputs)


def _in_any_layout(signature: Signature) -> list[list[int]]:
    """The sizes, alike for (C, H, W) and (H, W, C)."""
    return [sorted(taken.shape[1:]) for taken in signature.inputs]


def _signature_of(artifact: Artifact, batches: Sequence[int], known: Sequence[Input]) -> Signature:
    """The inputs and outputs of an artifact, for the first batch."""
    number = next((taken for taken in artifact.inputs if taken.dims == ()), None)
    if number is not None:
        raise InputError(
            f"{artifact.path} takes {number.name}, a single number",
            hint="What can be timed takes a batch in each input: export the number as a constant.",
        )
    if not artifact.inputs or (known and len(known) != len(artifact.inputs)):
        taken = ", ".join(map(str, artifact.inputs)) or "nothing"
        wanted = ", ".join(map(str, known)) or "images"
        raise InputError(f"{artifact.path} takes {taken}", hint=f"What was to be timed takes {wanted}.")
    by_name = {own.name: own for own in known}
    names = [taken.name for taken in artifact.inputs]
    ordered: Sequence[Input | None] = [None] * len(names)
    if known:
        ordered = [by_name[name] for name in names] if by_name.keys() == set(names) else known
    pairs = zip(artifact.inputs, ordered, strict=True)
    inputs = [_input_of(artifact, taken, batches, own) for taken, own in pairs]
    return Signature(tuple(inputs), tuple(output.name for output in artifact.outputs))


def _input_of(artifact: Artifact, taken: Tensor, batches: Sequence[int], known: Input | None) -> Input:
    """An input of an artifact, for the first batch."""
    dtype = numpy_name(taken.dtype) or (known.dtype if known else "float32")
    if dtype not in TYPES:
        raise InputError(f"{artifact.path} takes {taken} as {dtype}", hint="What can be timed takes numbers.")
    rank = len(known.shape) if known else 0
    dims = taken.dims or (None,) * rank
    profile = artifact.profile[taken.name].opt if artifact.profile else dims
    own = [size for dim in profile[1:] if (size := fixed(dim))]
    other_layout = known and sorted(own) == sorted(known.shape[1:])  # of pixels
    sizes: Sequence[Dim] = known.shape[1:] if known and not other_layout else profile[1:]
    found = tuple(size for dim in sizes if (size := fixed(dim)))
    if not dims or len(found) < len(sizes):
        raise InputError(
            f"{artifact.path} takes {taken}, and nothing says how large its images are",
            hint=f"Say it: {_example(artifact)}",
        )
    for batch in batches:
        _refuse_other_shape(artifact, taken, (batch, *found))
    axes = tuple(Axis(axis_name(len(dims), i), i) for i, d in enumerate(dims) if not fixed(d))
    limits = known.range if known else None
    return Input(taken.name, (batches[0], *found), dtype if dtype in INPUT_TYPES else "float32", axes, limits)


def _example(artifact: Artifact) -> str:
    """The option that says the size of each input."""
    shapes = {taken.name: "x".join(map(str, _usual(taken.dims))) for taken in artifact.inputs}
    if len(shapes) == 1:
        return f"--input {next(iter(shapes.values()))}"
    return " ".join(f"--input {name}={shape}" for name, shape in shapes.items())


def _usual(dims: Sequence[Dim] | None) -> Sequence[Dim]:
    """A shape for these axes: a usual size for each that is dynamic."""
    if dims is None:
        return IMAGE
    usual = IMAGE if len(dims) == len(IMAGE) else (1, *[16] * (len(dims) - 1))
    if len(dims) == len(IMAGE) and fixed(dims[-1]) and not fixed(dims[1]):  # channels last
        usual = (1, 224, 224, 3)
    return [d if fixed(d) else u for d, u in zip(dims, usual, strict=True)]


def _refuse_other_shape(artifact: Artifact, taken: Tensor, shape: Shape) -> None:
    known = artifact.profile[taken.name] if artifact.profile is not None else None
    if not (known.covers(shape) if known else taken.takes(shape)):
        accepted = f"{known.min} to {known.max}" if known else str(taken)
        raise InputError(
            f"{artifact.path} takes {accepted}, and {'x'.join(map(str, shape))} was to be timed",
            hint="Choose other batches or another --input, or export with these axes open.",
        )
