"""Attention for any CNN: blocks put behind submodules of a network that knows nothing of them.

    network = equip(torchvision.models.resnet50(), "cbam", "stage")
    attention_of(network)  # {"layer1": CBAM(...), "layer2": ..., "layer3": ..., "layer4": ...}
    unequip(network)  # the plain network again

Where the blocks go and how many channels they get is read off the maps of one forward pass, not off class names. A
submodule that gets a block is replaced by an `Attended` with the two as children, so tracing, copying and pickling see
an ordinary module, unlike a hook, and containers that iterate over their children see none that they don't know, unlike
a child added to the submodule. Weights move from ``layer1.0.conv1.weight`` to ``layer1.host.0.conv1.weight``: load the
host's own weights before `equip`, or between `unequip` and `equip`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import nn

from attn_export.models.attention.catalogue import KINDS
from attn_export.models.places import blocks, last, maps_of, stages

Where = Literal["stage", "block", "last"]
# Of one or two hidden channels, a ReLU may zero all for good, and the block would never train.
LEAST_HIDDEN = 8
PLACES = {"stage": stages, "block": blocks, "last": last}


class Attended(nn.Module):
    """A submodule and the attention behind it: ``attention(host(*args, **kwargs))``.

    Shape:
        As the host; its output is a map, (N, C, H, W).
    """

    def __init__(self, host: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.host = host
        self.attention = attention

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        out: torch.Tensor = self.attention(self.host(*args, **kwargs))
        return out


@dataclass(frozen=True)
class Equipment:
    """What `equip` was asked for; plain values, so it can stand in a file.

    Attributes:
        attention: a name of `KINDS`.
        where: "stage", "block", "last", or paths of submodules.
        reduction: of the hidden layers; None for the paper's own, or less where that leaves under 8 hidden channels.
        kernel_size: of CBAM's spatial gates, 7 or 3.
        init: "identity" or "paper".
    """

    attention: str
    where: str | tuple[str, ...] = "stage"
    reduction: int | None = None
    kernel_size: int = 7
    init: str = "identity"

    def __post_init__(self) -> None:
        if self.attention not in KINDS:
            near = get_close_matches(str(self.attention), KINDS, n=1)
            suggestion = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown attention {self.attention!r}; {suggestion}known are {', '.join(KINDS)}")
        if isinstance(self.where, str) and self.where not in PLACES:
            raise ValueError(f"where is {self.where!r}; it must be {', '.join(PLACES)}, or a list of submodules")
        if self.init not in ("identity", "paper"):
            raise ValueError(f"init is {self.init!r}; it must be identity or paper")

    def block(self, channels: int) -> nn.Module:
        """A new block for a map of so many channels."""
        kind = KINDS[self.attention]
        reduction = self.reduction
        if reduction is None and kind.reduction is not None:
            reduction = min(kind.reduction, max(1, channels // LEAST_HIDDEN))
        identity = self.init == "identity"
        return kind.build(channels, reduction=reduction, kernel_size=self.kernel_size, identity=identity)


def equip(
    module: nn.Module,
    attention: str = "se",
    where: Where | Sequence[str] = "stage",
    *,
    input_shape: Sequence[int] = (1, 3, 224, 224),
    reduction: int | None = None,
    kernel_size: int = 7,
    init: Literal["identity", "paper"] = "identity",
) -> nn.Module:
    """Put attention into a network, in place.

    Args:
        module: any CNN; its forward takes one (N, C, H, W) tensor of the type of its weights.
        attention: "se", "cbam", "eca", …: the names of `attn_export.models.attention.catalogue.KINDS`.
        where: "stage" behind each group of layers with one output resolution, "block" behind each repeated block,
            "last" behind the last map, or the paths of submodules.
        input_shape: of an example input, (N, C, H, W), large enough that the last map has more than one place.
        reduction: of the hidden layers; None for the paper's own, or less where that leaves under 8 hidden channels.
        kernel_size: of CBAM's spatial gates, 7 or 3.
        init: "identity" gives blocks that return their input bit for bit until they are trained (see
            `attn_export.models.attention.gate`), "paper" the block as it is published, randomly initialized.

    Returns:
        ``module``, with the weights, device, type and mode that it had.

    Raises:
        ValueError: the network has no convolution; ``where`` matches nothing; a submodule that is named doesn't exist,
            doesn't run, returns no map, or maps of different channels; an argument is unknown.
    """
    chosen = where if isinstance(where, str) else tuple(where)
    return apply(Equipment(attention, chosen, reduction, kernel_size, init), module, input_shape)


def apply(equipment: Equipment, module: nn.Module, input_shape: Sequence[int]) -> nn.Module:
    """`equip` with its arguments as one value."""
    maps = maps_of(module, input_shape, () if isinstance(equipment.where, str) else equipment.where)
    paths = PLACES[equipment.where](module, maps) if isinstance(equipment.where, str) else equipment.where
    if not paths:
        raise ValueError(
            f"where={equipment.where!r} matches nothing in this {type(module).__name__}; name submodules instead, "
            f"such as {', '.join(list(maps.channels)[-3:])}"
        )
    if present := [path for path in paths if isinstance(module.get_submodule(path), Attended)]:
        raise ValueError(f"there is attention behind {', '.join(present)} already; unequip takes it out")
    hosts = [(module.get_submodule(path), maps.channels_at(path)) for path in dict.fromkeys(paths)]
    for host, channels in hosts:
        block = equipment.block(channels).train(host.training)
        reference = next(module.parameters())
        _replace(module, host, Attended(host, block.to(reference.device, reference.dtype)).train(host.training))
    return module


def attention_of(module: nn.Module) -> dict[str, nn.Module]:
    """The blocks that `equip` has put into a network, by the path of their `Attended`."""
    return {path: part.attention for path, part in module.named_modules() if isinstance(part, Attended)}


def unequip(module: nn.Module, paths: Sequence[str] | None = None) -> nn.Module:
    """Take attention out again, in place.

    ``paths`` are as `attention_of` lists them; None for all.

    Returns:
        ``module``; without paths, with the names of weights that it had before `equip`.

    Raises:
        ValueError: there is no block at a path.
    """
    present = attention_of(module)
    if missing := [path for path in paths or () if path not in present]:
        raise ValueError(f"there is no attention at {', '.join(missing)}; there is at {', '.join(present) or 'none'}")
    for attended in [module.get_submodule(path) for path in (present if paths is None else paths)]:
        assert isinstance(attended, Attended)
        _replace(module, attended, attended.host)
    return module


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another wherever that is registered: shared ones stay shared."""
    for path in [path for path, part in root.named_modules(remove_duplicate=False) if part is old]:
        root.set_submodule(path, new)
