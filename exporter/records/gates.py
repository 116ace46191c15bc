"""Gate activations on one image, of PyTorch and of each artifact, in their JSON form."""

from msgspec import Struct

PYTORCH = "PyTorch"

ENGINE_UNAVAILABLE = "more outputs would change which kernels it has"


class Picture(Struct, frozen=True):
    """The input as an image. ``shape``: (channels, height, width); ``pixels``: base64 of uint8 (H, W, channels)."""

    kind: str
    shape: tuple[int, int, int]
    pixels: str
    channels: int


class GateActivation(Struct, frozen=True):
    """One gate.

    Attributes:
        kind: "channel" (one value per channel) or "spatial" (one per position).
        shape: (C,), or (H, W).
        values: by "PyTorch" and artifact name, base64 of uint8; 0 to 255 stands for 0 to 1.
        differences: by artifact name, the largest absolute difference from PyTorch.
        window: side of the averaging window of a spatial gate.
    """

    module_path: str
    kind: str
    shape: tuple[int, ...]
    values: dict[str, str]
    differences: dict[str, float]
    window: int = 1


class OmittedGate(Struct, frozen=True):
    """A gate that is neither per channel nor spatial: module path and reason."""

    module_path: str
    reason: str


class GateActivations(Struct, frozen=True):
    """The gates on one image, None for other inputs; ``unavailable`` says why artifacts are missing."""

    image: Picture | None
    gates: tuple[GateActivation, ...]
    left_out: int = 0
    omitted: tuple[OmittedGate, ...] = ()
    unavailable: dict[str, str] = {}
