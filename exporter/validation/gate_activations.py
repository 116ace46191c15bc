"""The gates of a network on one image, and what artifacts make of them. To be looked at: nothing is judged by it.

What is recorded is what goes into a gate's sigmoid, in PyTorch and in each file; both are squashed here, in double
precision, as PyTorch does it. So a difference that is shown is one of what was computed, not of two ways to squash.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from attn_export.exporter.artifacts import LoadedModel, Normalization, OnnxFile
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.graph.read import parsed
from attn_export.exporter.network.images import IMAGE_RANK, REAL, SEED, Image, Images, natural, noise
from attn_export.exporter.network.observation import evaluating, observed
from attn_export.exporter.network.run import gate_test
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.gates import PYTORCH, GateActivation, GateActivations, OmittedGate, Picture
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.system.memory import trim
from attn_export.exporter.validation.validate import paired

CHANNEL, SPATIAL = "channel", "spatial"

# Nobody looks at more, and a page has to stay small.
MOST_GATES = 64
# Of a map and of the image, as they are shown.
LARGEST_MAP, LARGEST_PICTURE = 112, 224
RGB = 3


@dataclass(frozen=True)
class ShownImage:
    """What the gates are looked at on.

    Attributes:
        kind: "real", "natural", or "noise" for a network that takes no images.
        image: (C, H, W) float32, as the network takes it.
    """

    kind: str
    image: Image


@dataclass(frozen=True)
class CapturedGate:
    """One gate, with its values.

    Attributes:
        module_path: of the submodule that computes it.
        kind: "channel" or "spatial".
        values: by "PyTorch" and file name, 0 to 1: (C,), or (H, W).
        differences: by file name, the largest absolute difference from PyTorch.
        window: side of the averaging window that keeps a map within `LARGEST_MAP`.
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
        kind: of the image.
        picture: (H, W, 1) or (H, W, 3), uint8; None where the input is not an image.
    """

    kind: str
    picture: Array | None
    gates: tuple[CapturedGate, ...]
    left_out: int = 0
    omitted: tuple[OmittedGate, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)

    def to_record(self) -> GateActivations | None:
        """The JSON form; None where the network and the files have no gates."""
        if not (self.gates or self.omitted or self.unavailable):
            return None
        image = None
        if self.picture is not None:
            height, width, channels = self.picture.shape
            image = Picture(self.kind, (channels, height, width), _base64(self.picture), channels)
        return GateActivations(
            image, tuple(gate.to_record() for gate in self.gates), self.left_out, self.omitted, dict(self.unavailable)
        )


def _base64(array: Array) -> str:
    return b64encode(array.tobytes()).decode("ascii")


@dataclass(frozen=True)
class _Gate:
    """What goes into a sigmoid in PyTorch.

    Attributes:
        module_path: of the submodule.
        operator: "sigmoid" or "hardsigmoid".
        logits: (1, C, H, W), or of another shape.
    """

    module_path: str
    operator: str
    logits: Array

    @property
    def place(self) -> str:
        """For people."""
        return self.module_path or "the network"

    def gate(self, logits: Array) -> Array:
        """Logits, as many as its own, squashed as PyTorch does it, in its own shape without the batch."""
        x = np.asarray(logits, np.float64).reshape(self.logits.shape[1:])
        return np.clip(x / 6 + 0.5, 0, 1) if self.operator == "hardsigmoid" else 0.5 + 0.5 * np.tanh(x / 2)


def sample_image(input_shape: tuple[int, ...], real: Images | None = None) -> ShownImage:
    """The first of the user's images, or else the first of those that artifacts are judged on.

    Args:
        input_shape: (C, H, W) of the network.
        real: (N, C, H, W) of that size, as the network takes them.
    """
    if real is not None and len(real) and real.shape[1:] == tuple(input_shape):
        return ShownImage(REAL, np.asarray(real[0], np.float32))
    draw = np.random.default_rng([SEED, *input_shape])
    if len(input_shape) != IMAGE_RANK:
        return ShownImage("noise", noise(input_shape, draw))
    channels, height, width = input_shape
    return ShownImage("natural", natural((channels, height, width), draw))


def look(
    model: LoadedModel,
    files: Sequence[OnnxFile],
    sample: ShownImage,
    settings: Settings,
    unavailable: Mapping[str, str] | None = None,
) -> CapturedActivations:
    """Run PyTorch in float32 and each file with its gates as outputs, on one image.

    Args:
        model: its module is not changed.
        files: ONNX files made of it. One that can't be run or paired is listed in `CapturedActivations.unavailable`.
        sample: see `sample_image`.
        settings: of ONNX Runtime.
        unavailable: other artifacts by name, and why they can't be looked into, such as `ENGINE_UNAVAILABLE`.
    """
    squashed, outputs = _in_pytorch(model, sample.image)
    forms = [_form(gate, outputs) for gate in squashed]
    drawable = [i for i, form in enumerate(forms) if form in (CHANNEL, SPATIAL)]
    chosen = _evenly(drawable)
    told = dict(unavailable or {})
    logits: dict[str, list[Array]] = {}
    for file in files:
        found = _in_file(file, squashed, chosen, sample.image, settings)
        if isinstance(found, str):
            told[file.name] = found
        else:
            logits[file.name] = found
    trim()
    return CapturedActivations(
        kind=sample.kind,
        picture=picture(sample.image, model.normalization),
        gates=tuple(
            _seen(squashed[i], forms[i], {name: arrays[place] for name, arrays in logits.items()})
            for place, i in enumerate(chosen)
        ),
        left_out=len(drawable) - len(chosen),
        omitted=tuple(
            OmittedGate(gate.module_path, form)
            for gate, form in zip(squashed, forms, strict=True)
            if form not in (CHANNEL, SPATIAL)
        ),
        unavailable=told,
    )


def _in_pytorch(model: LoadedModel, image: Image) -> tuple[list[_Gate], list[Array]]:
    """Everything that is squashed, in the order in which it is computed, and what the network returns."""
    found: list[_Gate] = []
    squashes = gate_test(model.module)

    def note(path: str, operator: Any, args: tuple[Any, ...]) -> None:
        if squashes(path, operator):
            name = operator.overloadpacket.__name__.removesuffix("_")
            found.append(_Gate(path, name, args[0].detach().numpy().copy()))

    with evaluating(model.module) as module, observed(module, note):
        results = module(torch.from_numpy(np.ascontiguousarray(image[None])))
    return found, [tensor.numpy() for tensor in pytree.tree_leaves(results) if isinstance(tensor, torch.Tensor)]


def _in_file(
    file: OnnxFile, squashed: Sequence[_Gate], chosen: Sequence[int], image: Image, settings: Settings
) -> list[Array] | str:
    """What goes into the chosen gates, flat, or why that can't be seen."""
    gates, missed = paired([gate.module_path for gate in squashed], file.gates)
    if not squashed and file.gates:
        missed = f"PyTorch computes no gates, the file {len(file.gates)}"
    if missed or not chosen:
        return missed or []
    signature, taps = file.signature, [gates[i].tensor for i in chosen]
    count = 1 if signature.axis("batch") else signature.input_shape[0]
    try:
        with OnnxRuntime(file.path, signature, settings, taps, graph=parsed(file).model) as runtime:
            results = runtime.run({signature.input_name: np.repeat(image[None], count, axis=0)})
    except AttnExportError as error:  # a page without its gates is better than none
        return error.message
    found = []
    for i, tap in zip(chosen, taps, strict=True):
        wanted, array = squashed[i].logits, results[tap]
        if np.isnan(array).any():
            return f"the gate of {squashed[i].place} holds NaN"
        if array.size != count * wanted.size:
            return f"the gate of {squashed[i].place} has {array.size // count} values, PyTorch's {wanted.size}"
        found.append(array.reshape(count, -1)[0])
    return found


def _form(gate: _Gate, outputs: Sequence[Array]) -> str:
    """Whether it is a "channel" or a "spatial" gate, or why it is neither."""
    shape = gate.logits.shape
    if not shape or shape[0] != 1:
        return f"its shape is {shape}, which isn't that of one image"
    squashed = gate.gate(gate.logits).reshape(-1)
    if np.isnan(squashed).any():
        return "it holds NaN"
    if any(array.size == squashed.size and np.allclose(array.reshape(-1), squashed, atol=1e-6) for array in outputs):
        return "it is what the network returns"
    channels, *places = shape[1:] or (1,)
    if all(size == 1 for size in places) or (len(places) == 1 and channels == 1):  # ECA's is (N, 1, C)
        return CHANNEL
    if channels == 1 and len(places) == 2:
        return SPATIAL
    sizes = "x".join(map(str, shape[1:]))
    return f"its values are {sizes}: neither one for each channel nor one for each place"


def _evenly(indices: Sequence[int]) -> list[int]:
    """At most `MOST_GATES` of them, the first and the last included."""
    places = np.linspace(0, len(indices) - 1, min(len(indices), MOST_GATES)).astype(int)
    return [indices[place] for place in places]


def _seen(squashed: _Gate, kind: str, logits: Mapping[str, Array]) -> CapturedGate:
    whole = {PYTORCH: squashed.gate(squashed.logits), **{name: squashed.gate(array) for name, array in logits.items()}}
    own = whole[PYTORCH]
    differences = {name: float(np.abs(whole[name] - own).max()) for name in logits}
    if kind == CHANNEL:
        return CapturedGate(
            squashed.module_path, kind, {name: gate.reshape(-1) for name, gate in whole.items()}, differences
        )
    window = -(-max(own.shape[1:]) // LARGEST_MAP)
    maps = {name: _pooled(gate[0], window) for name, gate in whole.items()}
    return CapturedGate(squashed.module_path, kind, maps, differences, window)


def picture(image: Image, normalization: Normalization | None) -> Array | None:
    """An input for people: the normalization reverted, or stretched from its smallest to its largest value.

    Args:
        image: (C, H, W), as the network takes it.
        normalization: of the network, where it is known.

    Returns:
        (H, W, 3), or (H, W, 1) with the mean of the channels where these aren't three, uint8, at most
        `LARGEST_PICTURE` on a side; None for what is no image.
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
    values = _pooled(np.clip(values, 0, 1), -(-max(values.shape[:2]) // LARGEST_PICTURE))
    return np.round(values * 255).astype(np.uint8)


def _pooled(values: Array, window: int) -> Array:
    """Means over windows of the first two axes; those at the end may be smaller."""
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], window)
        sizes = np.diff(np.append(starts, values.shape[axis])).reshape(
            [-1 if a == axis else 1 for a in range(values.ndim)]
        )
        values = np.add.reduceat(values, starts, axis) / sizes
    return values
