"""How fast artifacts are. Times, and checks nothing."""

from attn_export.exporter.latency.measure import Schedule, measure
from attn_export.exporter.latency.statistics import Timing

__all__ = ["Schedule", "Timing", "measure"]
