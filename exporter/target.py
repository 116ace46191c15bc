"""Whom a graph is made for."""

from enum import StrEnum


class Target(StrEnum):
    """The runtime whose preferences decide where two forms compute the same; docs/cleanup.md has the measurements."""

    ANY = "any"
    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"
