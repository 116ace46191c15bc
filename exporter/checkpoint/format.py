"""The project's checkpoint: weights and a description of their network.

    {"format": "attn-export", "version": 1, "architecture": {...}, "input_shape": [C, H, W],
     "normalization": {"mean": [...], "std": [...]} or None, "class_names": [...] or None, "state_dict": {...}}

Plain values and tensors only, so that ``torch.load(weights_only=True)`` reads it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import Normalization
from attn_export.exporter.checkpoint.inert import is_name
from attn_export.exporter.checkpoint.structure import shapes_of
from attn_export.exporter.errors import UnreadableCheckpointError
from attn_export.exporter.system.scratch import written_atomically

if TYPE_CHECKING:
    import torch
    from torch import nn

    from attn_export.models.registry import Architecture

FORMAT = "attn-export"
VERSION = 1
MOST_VALUES, LARGEST, LONGEST = 100_000, 2**80, 10_000
SURROGATE = re.compile("[\ud800-\udfff]")


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
    """Write ``module``'s weights with their description, atomically.

    ``input_shape`` is (C, H, W), by default the architecture's.

    Raises:
        OutputError: the file can't be written.
        ValueError: module, architecture, input shape, normalization and class names don't fit each other.
    """
    description = Description(
        architecture, image_shape(tuple(input_shape or architecture.input_shape)), normalization, _names(class_names)
    )
    check_description(description)
    weights = weights_of(module)
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != shapes_of(architecture):
        raise ValueError(f"the module is no {architecture.name} with these arguments")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": architecture.to_dict(),
        "input_shape": list(description.input_shape),
        "normalization": asdict(normalization) if normalization else None,
        "class_names": list(description.class_names) if description.class_names is not None else None,
        "state_dict": weights,
    }
    return write(Path(path), document)


def weights_of(module: "nn.Module") -> dict[str, "torch.Tensor"]:
    """A module's state dict as a file holds it: on the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}


def write(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a checkpoint atomically. Raises OutputError: the file can't be written."""
    import torch

    with written_atomically(path) as temporary:
        try:
            torch.save(dict(document), temporary)
        except RuntimeError as error:  # raised by torch's zip writer on a full disk
            raise OSError(str(error).partition("\n")[0]) from error
    return path


def is_ours(content: Any) -> bool:
    """Whether a loaded file is of this format, in any version."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT


def parse(content: Mapping[str, Any], path: Path) -> tuple[Description, dict[str, "torch.Tensor"]]:
    """Description and weights of a file that `is_ours`.

    Raises:
        UnreadableCheckpointError: another version, or an invalid part.
    """
    from attn_export.models.registry import Architecture

    check_plain(content, path, VERSION)
    try:
        description = Description(
            architecture=Architecture.from_dict(content["architecture"]),
            input_shape=image_shape(content["input_shape"]),
            normalization=_normalization(content.get("normalization")),
            class_names=_names(content.get("class_names")),
        )
        check_description(description)
        return description, checked_weights(content["state_dict"])
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableCheckpointError(f"{path} is a damaged attn-export checkpoint: {error}") from error


def check_plain(content: Mapping[str, Any], path: Path, version: int) -> None:
    """Check that all besides the weights is a moderate number of moderate values: lists in lists may have no end.

    Raises:
        UnreadableCheckpointError: it isn't, or is of another version.
    """
    found, waiting = content.get("version"), [value for name, value in content.items() if name != "state_dict"]
    for _ in range(MOST_VALUES):
        if not waiting and found == version:
            return
        if not waiting:
            raise UnreadableCheckpointError(
                f"{path} has checkpoint version {found!r}; this version of attn-export reads {version}",
                hint="A newer attn-export wrote it: upgrade.",
            )
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend((*value, *value.values()))
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif (isinstance(value, int) and abs(value) > LARGEST) or not is_text(value):
            break
    raise UnreadableCheckpointError(
        f"{path} is a damaged attn-export checkpoint: its description holds more than names and sizes"
    )


def is_text(value: Any) -> bool:
    """Whether something is no string, or one of moderate length that can be written to a file."""
    return not isinstance(value, str) or (len(value) <= LONGEST and not SURROGATE.search(value))


def check_description(description: Description) -> None:
    """Check that the parts fit each other. Raises ValueError: they don't."""
    arch, normalization, names = description.architecture, description.normalization, description.class_names
    if normalization is not None and not all(
        type(v) in (int, float) for v in (*normalization.mean, *normalization.std)
    ):
        raise ValueError("the normalization holds something that isn't a number")
    channels = description.input_shape[0]
    if channels != arch.in_channels:
        raise ValueError(f"the input has {channels} channels, {arch.name} takes {arch.in_channels}")
    if names is not None and len(names) != arch.num_classes:
        raise ValueError(f"{len(names)} class names for {arch.num_classes} classes")
    if normalization is not None and not len(normalization.mean) == len(normalization.std) == channels:
        raise ValueError(f"the normalization is not for {channels} channels")
    if normalization is not None and not (
        all(map(math.isfinite, normalization.mean)) and all(math.isfinite(s) and s > 0 for s in normalization.std)
    ):
        raise ValueError("the normalization holds a mean that isn't finite, or a spread that isn't positive")


def image_shape(shape: Any) -> tuple[int, int, int]:
    """(C, H, W) as a file holds it. Raises ValueError: it is something else."""
    if (
        not isinstance(shape, list | tuple)
        or len(shape) != 3
        or not all(type(n) is int and 0 < n < 2**20 for n in shape)
    ):
        raise ValueError(f"the input shape {shape!r} is not (C, H, W)")
    return shape[0], shape[1], shape[2]


def _normalization(values: Any) -> Normalization | None:
    if values is None:
        return None
    return Normalization(tuple(_floats(values["mean"])), tuple(_floats(values["std"])))


def _floats(values: Any) -> list[float]:
    if not isinstance(values, list | tuple) or not all(type(v) in (int, float) for v in values):
        raise TypeError(f"{values!r} is not a list of numbers")
    return [float(v) for v in values]


def _names(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise ValueError("the class names are no list of words")
    return tuple(values)


def checked_weights(values: Any) -> dict[str, "torch.Tensor"]:
    """A state dict as a file holds it. Raises TypeError: it is something else."""
    import torch

    if not isinstance(values, Mapping) or not all(
        is_name(name) and isinstance(tensor, torch.Tensor) for name, tensor in values.items()
    ):
        raise TypeError("its weights are no state dict")
    return dict(values)
