"""How large a network is, counted without running it."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_export.models.registry import Architecture, skeleton


@dataclass(frozen=True)
class Complexity:
    """Parameters, and multiply-accumulates (MACs) of convolutions and matrix products for one image."""

    parameters: int
    macs: int


def complexity(arch: Architecture, input_shape: tuple[int, int, int] | None = None) -> Complexity:
    """Count for one image of ``input_shape`` (C, H, W), by default the architecture's own.

    The counting runs on the meta device: shapes only, no memory, no arithmetic. Poolings, gates and other element-wise
    work are not MACs and not counted, as is usual.
    """
    network = skeleton(arch)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.empty(1, *(input_shape or arch.input_shape), device="meta"))
    return Complexity(parameters=count_parameters(network), macs=counter.get_total_flops() // 2)


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers; BatchNorm statistics are not."""
    return sum(p.numel() for p in network.parameters())
