"""Files to networks: safe by default, and every difference has a name."""

from attn_export.exporter.checkpoint.format import save
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.checkpoint.load import load

__all__ = ["from_module", "load", "save"]
