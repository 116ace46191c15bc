"""Matches the inputs and outputs of an artifact with those of a network; names may differ where the match is unique."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from attn_export.exporter.artifacts import INPUT_NAME, Axis, Input, Signature
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.axes import axis_name
from attn_export.exporter.network.batches import Batch, batches, nominal_batches, rows_of
from attn_export.exporter.network.images import REAL
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.artifact import Artifact, Tensor
from attn_export.exporter.records.engine import shapes_of
from attn_export.exporter.validation.artifact import numpy_name

# Types of inputs.
FLOATS = ("float32", "float16", "float64", "bfloat16")
# Number of images, and N: with a quantized graph any image may have ties.
RUNS_OF_QUANTIZED, BATCH_OF_QUANTIZED = 24, 4

# Inputs of other names that are tried in every order.
MOST_REORDERED = 5


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
        signature: inputs and outputs in the network's order, as the artifact calls them.
        inputs: the same inputs as the network calls them.
        notes: the differences, and how they were resolved.
    """

    signature: Signature
    inputs: tuple[Input, ...]
    notes: tuple[str, ...]


def match(artifact: Artifact, inputs: Sequence[Input], returned: Sequence[Returned]) -> Match:
    """Find the network's inputs and outputs in an artifact.

    Raises:
        InputError: the artifact has other inputs or outputs; the message lists both.
    """
    taken, notes = _inputs(artifact, inputs)
    names, more = _outputs(artifact, returned)
    found = _of_one_batch([_in_artifact(artifact, theirs, own) for theirs, own in zip(taken, inputs, strict=True)])
    named = (replace(own, name=theirs.name) for theirs, own in zip(taken, found, strict=True))
    return Match(Signature(tuple(named), names), found, (*notes, *more))


def _in_artifact(artifact: Artifact, taken: Tensor, own: Input) -> Input:
    """The network's input with the sizes and dynamic axes that it has in an artifact."""
    dims = taken.dims or (None,) * len(own.shape)
    fixed = tuple(size if isinstance(size, int) and size else 0 for size in dims)
    usual = tuple(size or own.shape[i] for i, size in enumerate(fixed))
    if artifact.profile is not None:
        usual = artifact.profile[taken.name].opt
    names = [axis_name(len(dims), i, own.layout) for i in range(len(dims))]
    # Axis 1 is that of channels or features, except where we called it otherwise.
    axes = (Axis(names[i], i) for i, d in enumerate(fixed) if not d and (i != 1 or str(dims[i]).endswith(names[i])))
    return replace(own, shape=usual, axes=tuple(axes))


def _of_one_batch(found: Sequence[Input]) -> tuple[Input, ...]:
    """The inputs with one N, which is static if that of any is."""
    static = [own.shape[0] for own in found if not any(axis.index == 0 for axis in own.axes)]
    if not static:
        return tuple(found)
    return tuple(replace(own.with_batch(static[0]), axes=tuple(a for a in own.axes if a.index)) for own in found)


def _inputs(artifact: Artifact, inputs: Sequence[Input]) -> tuple[list[Tensor], list[str]]:
    """The artifact's tensor for each input: by name, by order, or by shape where only one order fits."""
    theirs = {tensor.name: tensor for tensor in artifact.inputs}
    if len(theirs) != len(inputs):
        names = ", ".join(map(str, artifact.inputs)) or "nothing"
        raise InputError(
            f"{artifact.path} takes {len(theirs)} tensors ({names}), and the network takes {_wanted(inputs)}",
            hint="Was it made of this network?",
        )
    wanted = [own.name for own in inputs]
    if set(wanted) == set(theirs):
        chosen, notes = [theirs[name] for name in wanted], []
    else:
        chosen = _arranged(artifact, inputs)
        called = [f"{own.name} {tensor.name!r}" for own, tensor in zip(inputs, chosen, strict=True)]
        notes = [f"{artifact.path} calls " + (", ".join(called) if len(called) > 1 else f"its {called[0]}")]
    for tensor, own in zip(chosen, inputs, strict=True):
        notes += _differences(artifact, tensor, own, _wanted(inputs))
    return chosen, notes


def _arranged(artifact: Artifact, inputs: Sequence[Input]) -> list[Tensor]:
    """The tensors in the artifact's order if the inputs fit so, or else in the only order in which they do."""
    few = (artifact.inputs,) if len(inputs) > MOST_REORDERED else permutations(artifact.inputs)
    orders = [order for order in few if all(_takes(tensor, own) for tensor, own in zip(order, inputs, strict=True))]
    if artifact.inputs in orders or not orders:
        return list(artifact.inputs)
    if len(orders) > 1:
        raise InputError(
            f"{artifact.path} takes {', '.join(map(str, artifact.inputs))}, and the network takes {_wanted(inputs)}: "
            "it isn't clear which is which",
            hint="Export it with the names of forward's parameters.",
        )
    return list(orders[0])


def _takes(taken: Tensor, own: Input) -> bool:
    """Whether a tensor may be an input; unknown types and shapes may."""
    dtype = numpy_name(taken.dtype)
    if dtype and (dtype in FLOATS) is not (own.dtype in FLOATS):
        return False
    if taken.dims is None:
        return True
    size = own.shape[1:]
    return len(taken.dims) == len(own.shape) and (not size or taken.dims[1] in (size[0], *_open(taken.dims[1])))


def _wanted(inputs: Sequence[Input]) -> str:
    described = [f"{own.dtype} tensor of ({', '.join(map(str, ('N', *own.shape[1:])))})" for own in inputs]
    if len(inputs) == 1:
        return f"one {described[0]}"
    return ", ".join(f"{own.name}, a {text}" for own, text in zip(inputs, described, strict=True))


def _differences(artifact: Artifact, taken: Tensor, own: Input, wanted: str) -> list[str]:
    """Remarks on an input that fits."""
    dtype = numpy_name(taken.dtype)
    notes = []
    if dtype and (dtype in FLOATS) is not (own.dtype in FLOATS):
        raise InputError(
            f"{artifact.path} takes {taken} as {dtype}, and the network takes {wanted}",
            hint="If it takes pixels, validate it alone: files that are validated together take the same input.",
        )
    if dtype not in ("", own.dtype):
        what = "its input" if own.name == INPUT_NAME else own.name
        notes.append(f"{artifact.path} takes {what} as {dtype}: the images are converted")
    if taken.dims is None:
        return notes
    if not _takes(taken, own):
        hint = "Was it made of this network?"
        raise InputError(f"{artifact.path} takes {taken}, and the network takes {wanted}", hint=hint)
    if any(isinstance(s, int) and s != expected for s, expected in zip(taken.dims[2:], own.shape[2:], strict=True)):
        notes.append(f"{artifact.path} takes {taken}, which isn't the network's usual size: it is compared at that one")
    return notes


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


def batches_for(artifact: Artifact, found: Match, real: Arrays | None = None) -> list[Batch]:
    """The batches of an artifact, of the sizes that it takes; for an engine min, opt and max among them."""
    inputs, signature = found.inputs, found.signature
    if real is not None and any(real[own.name].shape[1:] != own.shape[1:] for own in inputs):
        real = None
    if artifact.quantized:
        dynamic = signature.least_batch == 1 and artifact.profile is None and signature.inputs[0].axes
        batch = BATCH_OF_QUANTIZED if dynamic else signature.batch
        return [*nominal_batches(inputs, batch, RUNS_OF_QUANTIZED), *_real(real, batch, 1 if dynamic else batch)]
    if artifact.profile is None:
        return batches(inputs, real=real)
    static = tuple(replace(own, axes=()) for own in inputs)
    return batches(static, shapes_of(artifact.profile, signature.input_names), real)


def _real(images: Arrays | None, batch: int, least: int) -> list[Batch]:
    """The user's images in batches; what is left is one more of at least ``least``."""
    if images is None:
        return []
    count = len(next(iter(images.values())))
    if count < least:
        raise InputError(f"{count} images were given, and the file takes {least} at once", hint="Give it more of them.")
    rows = [range(i, min(i + batch, count)) for i in range(0, count, batch)]
    return [
        Batch(rows_of(images, chosen), (REAL,) * len(chosen), tuple(f"real {i}" for i in chosen))
        for chosen in rows
        if len(chosen) >= least
    ]
