"""How large a network is, counted without running it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import nn

from attn_export.models.registry import Architecture, architecture, names, skeleton


@dataclass(frozen=True)
class Complexity:
    """Parameters, and multiply-accumulates (MACs) of convolutions and matrix products for one image."""

    parameters: int
    macs: int


@cache
def complexity(arch: Architecture, input_shape: tuple[int, int, int] | None = None) -> Complexity:
    """Count for one image of ``input_shape`` (C, H, W), by default the architecture's own.

    The counting runs on the meta device: shapes only, no memory, no arithmetic. Poolings, gates and other element-wise
    work are not MACs and not counted, as is usual. torch's own counter looks at every operator and takes twice as long.
    """
    network = skeleton(arch)
    macs = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        weight = cast("torch.Tensor", layer.weight)
        macs += output.numel() * weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
        elif isinstance(layer, nn.BatchNorm2d):
            # It has no MACs, and takes most of the time on the meta device.
            layer.forward = _unchanged  # type: ignore[assignment, method-assign]
    with torch.no_grad():
        network(torch.empty(1, *(input_shape or arch.input_shape), device="meta"))
    return Complexity(parameters=count_parameters(network), macs=macs)


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


@dataclass(frozen=True)
class NetworkSize:
    """A network of the zoo for one image (C, H, W), and the shares that attention adds; None without attention."""

    name: str
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    added_parameters: float | None
    added_macs: float | None


def survey(advance: Callable[[float], None] = lambda _: None) -> Iterator[NetworkSize]:
    """The size of every network of the zoo.

    ``advance`` receives the finished share, 0..1.
    """
    everything = names()
    for i, name in enumerate(everything):
        arch = architecture(name)
        own = complexity(arch)
        plain = complexity(arch.plain) if arch.attention != "none" else None
        yield NetworkSize(
            name=name,
            input_shape=arch.input_shape,
            parameters=own.parameters,
            macs=own.macs,
            added_parameters=own.parameters / plain.parameters - 1 if plain else None,
            added_macs=own.macs / plain.macs - 1 if plain else None,
        )
        advance((i + 1) / len(everything))


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers; BatchNorm statistics are not."""
    return sum(p.numel() for p in network.parameters())
