"""How fast artifacts are. Times, and checks nothing."""

from attn_export.exporter.latency.measure import Measured, measure
from attn_export.exporter.latency.turns import Here, Timed, Turn
from attn_export.exporter.records.latency import TIMED, Latency, Run, Schedule, Timing, WarmUp, joined

__all__ = [
    "TIMED",
    "Here",
    "Latency",
    "Measured",
    "Run",
    "Schedule",
    "Timed",
    "Timing",
    "Turn",
    "WarmUp",
    "joined",
    "measure",
]
