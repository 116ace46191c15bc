"""Attention blocks, one file each: (N, C, H, W) -> (N, C, H, W), any floating dtype, unless a block says otherwise.

They take ``channels``, which is C. ``reduction`` is how many times narrower the hidden layer is, which keeps at least
one channel; ``bias`` gives its layers one. ``identity`` starts a block as the identity, see `gate`. Numbers that aren't
positive integers are a ValueError.
"""

from attn_export.models.attention.cbam import CBAM, ChannelAttention, SpatialAttention
from attn_export.models.attention.eca import ECA
from attn_export.models.attention.squeeze_excite import SEBlock, SqueezeExcitation

__all__ = ["CBAM", "ECA", "ChannelAttention", "SEBlock", "SpatialAttention", "SqueezeExcitation"]
