"""How fast artifacts are. Times, and checks nothing."""

from attn_export.exporter.latency.measure import Measured, Run, Schedule, measure
from attn_export.exporter.latency.results import Latency, joined
from attn_export.exporter.latency.statistics import Timing
from attn_export.exporter.latency.turns import TIMED, Here, Timed, Turn
from attn_export.exporter.latency.warm_up import WarmUp

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
