"""Gate activations of an image, from PyTorch and from each artifact."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    kind: str
    values: Mapping[str, Array]
    differences: Mapping[str, float]
    window: int = 1


@dataclass(frozen=True)
class OmittedGate:
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
