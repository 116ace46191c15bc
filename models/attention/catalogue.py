"""Every attention block by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from attn_export.models.attention.bam import BAM
from attn_export.models.attention.cbam import CBAM
from attn_export.models.attention.coordinate import CoordinateAttention
from attn_export.models.attention.eca import ECA
from attn_export.models.attention.gather_excite import GatherExcite
from attn_export.models.attention.gct import GCT
from attn_export.models.attention.scse import SCSE
from attn_export.models.attention.simam import SimAM
from attn_export.models.attention.squeeze_excite import SEBlock
from attn_export.models.attention.triplet import TripletAttention

Attention = Literal["none", "se", "cbam", "eca", "scse", "bam", "coord", "simam", "gct", "triplet", "ge"]


@dataclass(frozen=True)
class Kind:
    """An attention block.

    Attributes:
        title: as papers call it, and as the inventory of a graph lists it.
        block: its class; the first argument is the channels.
        options: names of the others that an `Architecture` or an `Equipment` may set.
        reduction: the paper's own; None for a block without a hidden layer.
    """

    title: str
    block: Callable[..., nn.Module]
    options: tuple[str, ...] = ()
    reduction: int | None = None

    def build(self, channels: int, *, identity: bool = False, **options: Any) -> nn.Module:
        """The block for (N, C, H, W) maps, with those of the options that it has."""
        own = {name: options[name] for name in self.options if name in options}
        return self.block(channels, identity=identity, **own)


KINDS: dict[str, Kind] = {
    "se": Kind("SE", SEBlock, ("reduction", "bias", "divisor"), 16),
    "cbam": Kind("CBAM", CBAM, ("reduction", "kernel_size", "bias", "spatial_end"), 16),
    "eca": Kind("ECA", ECA),
    "scse": Kind("scSE", SCSE, ("reduction",), 2),
    "bam": Kind("BAM", BAM, ("reduction",), 16),
    "coord": Kind("coordinate attention", CoordinateAttention, ("reduction",), 32),
    "simam": Kind("SimAM", SimAM),
    "gct": Kind("GCT", GCT),
    "triplet": Kind("triplet attention", TripletAttention, ("kernel_size",)),
    "ge": Kind("gather-excite", GatherExcite),
}
