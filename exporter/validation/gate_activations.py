"""The gate activations of a network on one image, in PyTorch and in each artifact. Reported, not judged.

Runs return the inputs of the sigmoids; the sigmoids themselves are computed here, in float64. So a difference comes
from the network, not from two implementations of a sigmoid.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.utils import _pytree as pytree

from attn_export.exporter.artifacts import NHWC, Input, LoadedModel, Normalization, OnnxFile
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.network.batches import repeated, rows_of
from attn_export.exporter.network.call import call
from attn_export.exporter.network.gates import GateRecorder, RecordedGate
from attn_export.exporter.network.images import IMAGE_RANK, REAL, SEED, landscape
from attn_export.exporter.network.observation import evaluating, observed
from attn_export.exporter.network.values import drawn, within_range
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.gates import PYTORCH, GateActivation, GateActivations, OmittedGate, Picture
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.memory import trim
from attn_export.exporter.validation.validate import paired

CHANNEL, SPATIAL = "channel", "spatial"
# More would make the page large.
MAX_GATES = 64
# Largest sides in the report.
MAX_MAP, MAX_PICTURE, MAX_THUMBNAIL = 112, 224, 96
RGB = 3


@dataclass(frozen=True)
class Sample:
    """The image of the activations.

    Attributes:
        kind: "real", "drawing", or "noise" for inputs that are no images.
        arrays: of each input, (1, ...), as the network takes it.
    """

    kind: str
    arrays: Arrays

    @property
    def image(self) -> Array:
        """The first input that is an image (C, H, W), or else the first one without N."""
        rows = [array[0] for array in self.arrays.values()]
        return next((row for row in rows if row.ndim == IMAGE_RANK), rows[0])


@dataclass(frozen=True)
class CapturedGate:
    """One gate with its activations.

    Attributes:
        module_path: of the submodule that computes it.
        kind: "channel" or "spatial".
        values: by "PyTorch" and file name, 0 to 1: (C,), or (H, W).
        differences: by file name, the largest absolute difference from PyTorch.
        window: side of the averaging window that keeps a map within `MAX_MAP`.
    """

    module_path: str
    kind: str
    values: Mapping[str, Array]
    differences: Mapping[str, float]
    window: int = 1

    def to_record(self) -> GateActivation:
        """The JSON form."""
        return GateActivation(
            self.module_path,
            self.kind,
            next(iter(self.values.values())).shape,
            {name: _base64((values * 255).round().astype(np.uint8)) for name, values in self.values.items()},
            dict(self.differences),
            self.window,
        )


@dataclass(frozen=True)
class CapturedActivations:
    """The gates on one image, see `GateActivations`.

    Attributes:
        picture: (H, W, 1) or (H, W, 3), uint8; None where the input is not an image.
    """

    kind: str
    picture: Array | None
    gates: tuple[CapturedGate, ...]
    left_out: int = 0
    omitted: tuple[OmittedGate, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)

    def to_record(self) -> GateActivations | None:
        """The JSON form; None where neither the network nor a file has gates."""
        if not (self.gates or self.omitted or self.unavailable):
            return None
        image = None if self.picture is None else _recorded(self.picture, self.kind)
        gates = tuple(gate.to_record() for gate in self.gates)
        return GateActivations(image, gates, self.left_out, self.omitted, dict(self.unavailable))


def _recorded(pixels: Array, kind: str) -> Picture:
    height, width, channels = pixels.shape
    return Picture(kind, (channels, height, width), _base64(pixels), channels)


def _base64(array: Array) -> str:
    return b64encode(array.tobytes()).decode("ascii")


def _activation(gate: RecordedGate, logits: Array) -> Array:
    """The activation of as many logits, in the gate's shape without the batch."""
    x = np.asarray(logits, np.float64).reshape(gate.logits.shape[1:])
    return 0.5 + 0.5 * np.tanh(x / 2) if gate.slope is None else np.clip(gate.slope * x + gate.offset, 0, 1)


def sample_image(inputs: Sequence[Input], real: Arrays | None = None) -> Sample:
    """The first of the user's images, otherwise a drawing, and noise for inputs that are no images.

    The user's images, (N, ...) of each input, count if they have the network's sizes.
    """
    if real is not None and all(len(real[i.name]) and real[i.name].shape[1:] == i.shape[1:] for i in inputs):
        return Sample(REAL, rows_of(real, [0]))
    is_image = any(len(taken.shape) == IMAGE_RANK + 1 for taken in inputs)
    arrays = {taken.name: _drawing(taken)[None] for taken in inputs}
    return Sample("drawing" if is_image else "noise", arrays)


def _drawing(taken: Input) -> Array:
    size = taken.shape[1:]
    if len(size) == IMAGE_RANK:
        channels, height, width = size
        return within_range(landscape((channels, height, width)), taken)
    return drawn("noise", taken, size, np.random.default_rng([SEED, *size]))


def capture_gates(
    model: LoadedModel,
    files: Sequence[OnnxFile],
    sample: Sample,
    settings: Settings,
    unavailable: Mapping[str, str] | None = None,
) -> CapturedActivations:
    """Run PyTorch in float32 and each file with its gates as outputs, on one image.

    ``unavailable`` are other artifacts, with a reason such as `ENGINE_UNAVAILABLE`.
    """
    least = max((file.signature.least_batch for file in files), default=1)
    gates, outputs = _in_pytorch(model, sample.arrays, least)
    kinds = [_kind(gate, outputs) for gate in gates]
    drawable = [i for i, kind in enumerate(kinds) if kind in (CHANNEL, SPATIAL)]
    chosen = [drawable[i] for i in np.linspace(0, len(drawable) - 1, min(len(drawable), MAX_GATES)).astype(int)]
    reasons = dict(unavailable or {})
    logits: dict[str, dict[int, Array]] = {}
    for file in files:
        logits[file.name], missed = _in_file(file, gates, chosen, sample.arrays, settings)
        if missed:
            reasons[file.name] = missed
    trim()
    return CapturedActivations(
        kind=sample.kind,
        picture=picture(channels_first(sample.image, model.inputs[0]), model.normalization),
        gates=tuple(
            _captured(gates[i], kinds[i], {name: arrays[i] for name, arrays in logits.items() if i in arrays})
            for i in chosen
        ),
        left_out=len(drawable) - len(chosen),
        omitted=tuple(
            OmittedGate(gate.module_path, kind)
            for gate, kind in zip(gates, kinds, strict=True)
            if kind not in (CHANNEL, SPATIAL)
        ),
        unavailable=reasons,
    )


def _in_pytorch(model: LoadedModel, arrays: Arrays, least: int) -> tuple[list[RecordedGate], list[Array]]:
    """The gates in the order of computation, and the network's outputs; the image runs as ``least`` copies."""
    recorder = GateRecorder(model.module)
    with evaluating(model.module) as module, observed(module, recorder):
        results = call(module, repeated(arrays, least))
    gates = [replace(gate, logits=gate.logits[: max(1, len(gate.logits) // least)]) for gate in recorder.gates]
    return gates, [tensor[:1].numpy() for tensor in pytree.tree_leaves(results) if isinstance(tensor, torch.Tensor)]


def _in_file(
    file: OnnxFile, gates: Sequence[RecordedGate], chosen: Sequence[int], arrays: Arrays, settings: Settings
) -> tuple[dict[int, Array], str]:
    """The inputs of the chosen gates that the file has, flat, and why others are unavailable."""
    pairs, missed = paired([gate.module_path for gate in gates], file.gates)
    tensors = {i: pairs[i].tensor for i in chosen if i in pairs}
    if not tensors:
        return {}, missed
    signature, count = file.signature, file.signature.least_batch
    try:
        with runtime_of_file(file, settings, list(tensors.values())) as runtime:
            results = runtime.run(signature.feeds(repeated(arrays, count)))
    except AttnExportError as error:  # the report does without these gates
        return {}, error.message
    found: dict[int, Array] = {}
    reasons = [missed] if missed else []
    for i, tensor in tensors.items():
        size, array = gates[i].logits.numel(), results[tensor]
        place = gates[i].module_path or "the network"
        if np.isnan(array).any():
            reasons.append(f"the gate of {place} holds NaN")
        elif array.size != count * size:
            reasons.append(f"the gate of {place} has {array.size // count} values, PyTorch's {size}")
        else:
            found[i] = array.reshape(count, -1)[0]
    return found, "; ".join(reasons)


def _kind(gate: RecordedGate, outputs: Sequence[Array]) -> str:
    """Either "channel" or "spatial", or why the gate is neither."""
    shape = tuple(gate.logits.shape)
    if not shape or shape[0] != 1:
        return f"its shape is {shape}, which isn't that of one image"
    activation = _activation(gate, gate.logits.numpy()).reshape(-1)
    if np.isnan(activation).any():
        return "it holds NaN"
    if any(o.size == activation.size and np.allclose(o.reshape(-1), activation, atol=1e-6) for o in outputs):
        return "it is what the network returns"
    channels, *places = shape[1:] or (1,)
    if all(size == 1 for size in places) or (len(places) == 1 and channels == 1):  # ECA's is (N, 1, C)
        return CHANNEL
    if channels == 1 and len(places) == 2:
        return SPATIAL
    sizes = "x".join(map(str, shape[1:]))
    return f"its values are {sizes}: neither one for each channel nor one for each place"


def _captured(gate: RecordedGate, kind: str, logits: Mapping[str, Array]) -> CapturedGate:
    values = {name: _activation(gate, array) for name, array in {PYTORCH: gate.logits.numpy(), **logits}.items()}
    differences = {name: float(np.abs(values[name] - values[PYTORCH]).max()) for name in logits}
    if kind == CHANNEL:
        flat = {name: array.reshape(-1) for name, array in values.items()}
        return CapturedGate(gate.module_path, kind, flat, differences)
    window = -(-max(values[PYTORCH].shape[1:]) // MAX_MAP)
    maps = {name: _pooled(array[0], window) for name, array in values.items()}
    return CapturedGate(gate.module_path, kind, maps, differences, window)


def channels_first(image: Array, taken: Input) -> Array:
    """An image (C, H, W) of one in the input's layout."""
    return np.moveaxis(image, -1, 0) if taken.layout == NHWC else image


def thumbnail(image: Array, model: LoadedModel, kind: str) -> Picture | None:
    """An input of a network as a small picture; None where it is no image."""
    pixels = picture(channels_first(image, model.inputs[0]), model.normalization, MAX_THUMBNAIL)
    return None if pixels is None else _recorded(pixels, kind)


def picture(image: Array, normalization: Normalization | None, largest: int = MAX_PICTURE) -> Array | None:
    """An input as a picture: without its normalization, or stretched from its smallest to its largest value.

    The image is (C, H, W), as the network takes it; ``largest`` is a side.

    Returns:
        (H, W, 3), or (H, W, 1) with the mean of the channels unless these are three, uint8; None where the input is no
        image.
    """
    if image.ndim != IMAGE_RANK:
        return None
    values = image.astype(np.float64).transpose(1, 2, 0)
    if normalization is not None and len(normalization.mean) == len(normalization.std) == values.shape[2]:
        values = values * np.asarray(normalization.std) + np.asarray(normalization.mean)
    else:
        low, high = float(values.min()), float(values.max())
        values = (values - low) / (high - low or 1.0)
    if values.shape[2] != RGB:
        values = values.mean(2, keepdims=True)
    values = _pooled(np.clip(values, 0, 1), -(-max(values.shape[:2]) // largest))
    return np.round(values * 255).astype(np.uint8)


def _pooled(values: Array, window: int) -> Array:
    """Means over windows of the first two axes; the last windows may be smaller."""
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], window)
        sizes = np.diff(np.append(starts, values.shape[axis]))
        shape = [-1 if other == axis else 1 for other in range(values.ndim)]
        values = np.add.reduceat(values, starts, axis) / sizes.reshape(shape)
    return values
