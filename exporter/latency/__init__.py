"""Latency measurements."""

from attn_export.exporter.latency.measure import Measured, measure
from attn_export.exporter.latency.rounds import InProcess, RoundTimes, Timed
from attn_export.exporter.records.latency import TIMED, Latency, Run, Schedule, Timing, WarmUp, joined

__all__ = [
    "TIMED",
    "InProcess",
    "Latency",
    "Measured",
    "RoundTimes",
    "Run",
    "Schedule",
    "Timed",
    "Timing",
    "WarmUp",
    "joined",
    "measure",
]
