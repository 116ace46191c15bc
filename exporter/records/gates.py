"""Gate activations of an image, from PyTorch and from each artifact."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from attn_export.exporter.records.arrays import Array

PYTORCH = "PyTorch"

ENGINE_UNAVAILABLE = "more outputs would change which kernels it has"


@dataclass(frozen=True)
class GateActivation:
    """One gate.

    Attributes:
        module_path: of the submodule that squashes it.
        kind: "channel", one value for each channel, or "spatial", one for each place.
        values: by "PyTorch" and the names of the files, 0 to 1: (C,), or (H, W) of a map.
        differences: by the names of the files, the largest absolute one from PyTorch's.
        window: the map's values are means over windows of this size, so that it isn't larger than `LARGEST_MAP`.
    """

    module_path: str
    kind: Literal["channel", "spatial"]
    values: Mapping[str, Array]
    differences: Mapping[str, float]
    window: int = 1


class OmittedGate(Struct, frozen=True):
    """A gate that is neither a list of channels nor a map.

    Attributes:
        module_path: of the submodule that squashes it.
        reason: half a sentence.
    """

    module_path: str
    reason: str


@dataclass(frozen=True)
class GateActivations:
    """The gates on one image.

    Attributes:
        kind: of the image.
        picture: the image for people, (H, W, 1) or (H, W, 3), uint8; None where the input is no image.
        gates: in the order in which they are computed.
        left_out: how many more there are.
        omitted: those that can't be shown.
        unavailable: why an artifact's gates couldn't be looked at, by its name.
    """

    kind: str
    picture: Array | None
    gates: tuple[GateActivation, ...]
    left_out: int = 0
    omitted: tuple[OmittedGate, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)


class GateImage(Struct, frozen=True):
    """The image whose gates were captured: base64 of uint8 values, (H, W, C) row by row."""

    kind: str
    shape: tuple[int, ...]
    pixels: str


class GateRecord(Struct, frozen=True):
    """A `GateActivation` in a document: base64 of uint8 values, 0 to 255 for 0 to 1."""

    module_path: str
    kind: Literal["channel", "spatial"]
    shape: tuple[int, ...]
    values: dict[str, str]
    differences: dict[str, float]
    window: int


class GateActivationsRecord(Struct, frozen=True):
    """`GateActivations` in a document."""

    image: GateImage | None
    gates: tuple[GateRecord, ...]
    left_out: int
    omitted: tuple[OmittedGate, ...]
    unavailable: dict[str, str]


def activations_record(captured: GateActivations) -> GateActivationsRecord:
    """Gate activations as they stand in a report."""
    image = None
    if captured.picture is not None:
        height, width, channels = captured.picture.shape
        image = GateImage(captured.kind, (channels, height, width), _base64(captured.picture))
    gates = tuple(
        GateRecord(
            gate.module_path,
            gate.kind,
            next(iter(gate.values.values())).shape,
            {name: _base64((values * 255).round().astype("uint8")) for name, values in gate.values.items()},
            dict(gate.differences),
            gate.window,
        )
        for gate in captured.gates
    )
    return GateActivationsRecord(image, gates, captured.left_out, captured.omitted, dict(captured.unavailable))


def _base64(array: Array) -> str:
    return b64encode(array.tobytes()).decode("ascii")
