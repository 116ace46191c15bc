"""The project's own checkpoint: weights, and a small description of what they are the weights of.

    {"format": "attn-export", "version": 1, "architecture": {...}, "input_shape": [C, H, W],
     "normalization": {"mean": [...], "std": [...]} or None, "class_names": [...] or None, "state_dict": {...}}

Plain values and tensors only, so that ``torch.load(weights_only=True)`` reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import Normalization
from attn_export.exporter.errors import UnreadableCheckpointError
from attn_export.exporter.files import written_atomically

if TYPE_CHECKING:
    import torch
    from torch import nn

    from attn_export.models import Architecture

FORMAT = "attn-export"
VERSION = 1


@dataclass(frozen=True)
class Description:
    """Everything in a project checkpoint besides the weights."""

    architecture: "Architecture"
    input_shape: tuple[int, int, int]
    normalization: Normalization | None = None
    class_names: tuple[str, ...] | None = None


def save(
    path: Path | str,
    module: "nn.Module",
    architecture: "Architecture",
    *,
    input_shape: tuple[int, int, int] | None = None,
    normalization: Normalization | None = None,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Write ``module``'s weights with their description; the file appears whole or not at all.

    Args:
        path: where to.
        module: of that architecture.
        architecture: see `attn_export.models.architecture`.
        input_shape: (C, H, W), by default the architecture's.
        normalization: of the images it was trained on.
        class_names: one for each output.

    Raises:
        OutputError: the file can't be written.
        ValueError: the number of class names or of normalization channels doesn't fit.
    """
    import torch

    shape = tuple(input_shape or architecture.input_shape)
    if class_names is not None and len(class_names) != architecture.num_classes:
        raise ValueError(f"{len(class_names)} class names for {architecture.num_classes} classes")
    if normalization is not None and not len(normalization.mean) == len(normalization.std) == shape[0]:
        raise ValueError(f"the normalization is not for {shape[0]} channels")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": architecture.to_dict(),
        "input_shape": list(shape),
        "normalization": asdict(normalization) if normalization else None,
        "class_names": list(class_names) if class_names is not None else None,
        "state_dict": {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()},
    }
    with written_atomically(Path(path)) as temporary:
        torch.save(document, temporary)
    return Path(path)


def is_ours(content: Any) -> bool:
    """Whether a loaded file is of this format, of whatever version."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"input shape {shape} is not (C, H, W)")
    return shape[0], shape[1], shape[2]


def parse(content: Mapping[str, Any], path: Path) -> tuple[Description, dict[str, "torch.Tensor"]]:
    """Description and weights of a file that `is_ours`.

    Raises:
        UnreadableCheckpointError: another version, or a part is missing or makes no sense.
    """
    from attn_export.models import Architecture

    if content.get("version") != VERSION:
        raise UnreadableCheckpointError(
            f"{path} has checkpoint version {content.get('version')!r}; this version of attn-export reads {VERSION}",
            hint="A newer attn-export wrote it: upgrade.",
        )
    try:
        shape = tuple(int(n) for n in content["input_shape"])
        norm = content.get("normalization")
        names = content.get("class_names")
        description = Description(
            architecture=Architecture.from_dict(content["architecture"]),
            input_shape=_image_shape(shape),
            normalization=Normalization(tuple(norm["mean"]), tuple(norm["std"])) if norm else None,
            class_names=tuple(str(n) for n in names) if names is not None else None,
        )
        return description, dict(content["state_dict"])
    except (KeyError, ValueError, TypeError) as error:
        raise UnreadableCheckpointError(f"{path} is a damaged attn-export checkpoint: {error}") from error
