"""Attention blocks: one file per block, (N, C, H, W) in and out."""

from attn_export.models.attention.cbam import CBAM, ChannelAttention, SpatialAttention
from attn_export.models.attention.eca import ECA
from attn_export.models.attention.squeeze_excite import SEBlock, SqueezeExcitation

__all__ = ["CBAM", "ECA", "ChannelAttention", "SEBlock", "SpatialAttention", "SqueezeExcitation"]
