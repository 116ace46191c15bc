"""Convolutional networks with a slot for attention, and the attention that goes into it."""

from attn_export.models.attention.cbam import CBAM, ChannelAttention, SpatialAttention
from attn_export.models.attention.eca import ECA
from attn_export.models.attention.squeeze_excite import SEBlock, SqueezeExcitation
from attn_export.models.equip import attention_of, equip, unequip
from attn_export.models.registry import Architecture, architecture, create, names

__all__ = [
    "CBAM",
    "ECA",
    "Architecture",
    "ChannelAttention",
    "SEBlock",
    "SpatialAttention",
    "SqueezeExcitation",
    "architecture",
    "attention_of",
    "create",
    "equip",
    "names",
    "unequip",
]
