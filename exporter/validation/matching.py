"""Matches the inputs and outputs of an artifact with those of a network; names may differ where the match is unique."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from attn_export.exporter.artifacts import Axis, Signature
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.images import BATCHES, REAL, Batch, Images, batches, nominal_batches
from attn_export.exporter.records.artifact import Artifact, Tensor
from attn_export.exporter.validation.artifact import numpy_name

AXES = {4: ("batch", "channels", "height", "width")}
# Types of inputs.
FLOATS = ("float32", "float16", "float64", "bfloat16")
# Number of images: with a quantized graph any image may have ties.
RUNS_OF_QUANTIZED = 24


@dataclass(frozen=True)
class Returned:
    """A tensor that the network returns.

    Attributes:
        name: as our exporter names it.
        shape: for one image, without N.
        whole: whether it holds integers or booleans.
    """

    name: str
    shape: tuple[int, ...]
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, ('N', *self.shape)))})"


@dataclass(frozen=True)
class Match:
    """How an artifact matches.

    Attributes:
        signature: input, and outputs in the network's order.
        notes: the differences, and how they were resolved.
    """

    signature: Signature
    notes: tuple[str, ...]


def match(artifact: Artifact, input_shape: tuple[int, ...], returned: Sequence[Returned]) -> Match:
    """Find the network's input and outputs in an artifact.

    Args:
        artifact: see `read_artifact`.
        input_shape: (C, H, W) of the network.
        returned: the network's outputs, in order.

    Raises:
        InputError: the artifact has other inputs or outputs; the message lists both.
    """
    taken, notes = _input(artifact, input_shape)
    names, more = _outputs(artifact, returned)
    sizes = tuple(size if isinstance(size, int) else 0 for size in taken.dims or (0,) * (len(input_shape) + 1))
    own = (1, *input_shape)
    usual = artifact.range.opt if artifact.range else tuple(s or own[i] for i, s in enumerate(sizes))
    axis_names = AXES.get(len(sizes), ("batch", "channels", *(f"axis_{i}" for i in range(2, len(sizes)))))
    axes = tuple(Axis(axis_names[i], i) for i, size in enumerate(sizes) if not size and i != 1)
    return Match(Signature(taken.name, usual, axes, names), (*notes, *more))


def _input(artifact: Artifact, input_shape: tuple[int, ...]) -> tuple[Tensor, list[str]]:
    wanted = f"one float32 tensor of ({', '.join(map(str, ('N', *input_shape)))})"
    hint = "Was it made of this network?"
    if len(artifact.inputs) != 1:
        names = ", ".join(map(str, artifact.inputs)) or "nothing"
        raise InputError(
            f"{artifact.path} takes {len(artifact.inputs)} tensors ({names}), and the network takes {wanted}", hint=hint
        )
    (taken,) = artifact.inputs
    dtype = numpy_name(taken.dtype)
    notes = [] if taken.name == "input" else [f"{artifact.path} calls its input {taken.name!r}"]
    if dtype and dtype not in FLOATS:
        raise InputError(
            f"{artifact.path} takes {taken} as {dtype}, and the network takes {wanted}",
            hint="If it normalizes images itself, export it without that part: what it is given must be the same.",
        )
    if dtype not in ("", "float32"):
        notes.append(f"{artifact.path} takes its input as {dtype}: the images are converted")
    if taken.dims is None:
        return taken, notes
    fits = len(taken.dims) == len(input_shape) + 1 and taken.dims[1] in (input_shape[0], *_open(taken.dims[1]))
    if not fits:
        raise InputError(f"{artifact.path} takes {taken}, and the network takes {wanted}", hint=hint)
    fixed = [size for size in taken.dims[2:] if isinstance(size, int)]
    if fixed and any(isinstance(s, int) and s != own for s, own in zip(taken.dims[2:], input_shape[1:], strict=True)):
        notes.append(f"{artifact.path} takes {taken}, which isn't the network's usual size: it is compared at that one")
    return taken, notes


def _open(size: int | str | None) -> tuple[int | str | None, ...]:
    return () if isinstance(size, int) else (size,)


def _outputs(artifact: Artifact, returned: Sequence[Returned]) -> tuple[tuple[str, ...], list[str]]:
    """The artifact's names of the network's outputs, by name, by order, or by shape where only one order fits."""
    theirs = {tensor.name: tensor for tensor in artifact.outputs}
    wanted = [entry.name for entry in returned]
    if set(wanted) <= set(theirs) and all(_fits(theirs[entry.name], entry) for entry in returned):
        return tuple(wanted), _left_out(artifact, wanted)
    lists = (
        f"{artifact.path} returns {', '.join(map(_typed, artifact.outputs)) or 'nothing'}, "
        f"and the network {', '.join(map(str, returned))}"
    )
    hint = "Was it made of this network?"
    if len(theirs) < len(wanted):
        raise InputError(f"{lists}: their numbers differ", hint=hint)
    if len(theirs) == len(wanted) and all(_fits(t, entry) for t, entry in zip(artifact.outputs, returned, strict=True)):
        chosen, how = list(theirs), "names its outputs otherwise; by their order"
    else:
        chosen, how = [], "returns its outputs in another order, or more of them; by their shapes"
        for entry in returned:
            fitting = [name for name, tensor in theirs.items() if _fits(tensor, entry)]
            if not fitting:
                raise InputError(f"{lists}: none of them fits {entry}", hint=hint)
            if len(fitting) > 1 or fitting[0] in chosen:
                raise InputError(f"{lists}: it isn't clear which is which", hint=hint)
            chosen += fitting
    pairs = ", ".join(f"{name} for {entry.name}" for name, entry in zip(chosen, returned, strict=True))
    return tuple(chosen), [f"{artifact.path} {how}: {pairs}", *_left_out(artifact, chosen)]


def _left_out(artifact: Artifact, taken: Sequence[str]) -> list[str]:
    extra = [tensor.name for tensor in artifact.outputs if tensor.name not in taken]
    return [f"{artifact.path} also returns {', '.join(extra)}: it isn't compared"] if extra else []


def _typed(tensor: Tensor) -> str:
    return str(tensor) if _is_float(tensor) else f"{tensor} as {tensor.dtype}"


def _is_float(tensor: Tensor) -> bool:
    """Whether its type is floating or unknown."""
    return not tensor.dtype or numpy_name(tensor.dtype) in FLOATS


def _fits(tensor: Tensor, entry: Returned) -> bool:
    """Whether an output may be this one; unknown types and shapes fit."""
    if tensor.dtype and _is_float(tensor) is entry.whole:
        return False
    if tensor.dims is None or any(not isinstance(size, int) for size in tensor.dims[1:]):
        return True
    return math.prod(size for size in tensor.dims[1:] if isinstance(size, int)) == math.prod(entry.shape)


def batches_for(artifact: Artifact, signature: Signature, real: Images | None = None) -> list[Batch]:
    """The batches of an artifact, of the sizes that it takes; for an engine min, opt and max among them."""
    own, dynamic = signature.input_shape[1:], {axis.name for axis in signature.axes}
    if artifact.quantized:
        batch = BATCHES[-1] if "batch" in dynamic and artifact.range is None else signature.input_shape[0]
        return [*nominal_batches(own, batch, RUNS_OF_QUANTIZED), *_real(real, own, batch)]
    if real is not None and real.shape[1:] != own:
        real = None
    if artifact.range is None:
        return batches(own, dynamic, signature.input_shape[0], real=real)
    judged = artifact.range.shapes
    return batches(own, (), signature.input_shape[0], judged, real)


def _real(images: Images | None, own: tuple[int, ...], batch: int) -> list[Batch]:
    """All whole batches of the user's images."""
    if images is None or images.shape[1:] != own:
        return []
    starts = range(0, len(images) // batch * batch, batch)
    names = [f"real {i}" for i in range(len(images))]
    return [Batch(images[i : i + batch], (REAL,) * batch, tuple(names[i : i + batch])) for i in starts]
