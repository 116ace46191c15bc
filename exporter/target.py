"""Whom a graph is made for."""

from enum import Enum


class Target(str, Enum):
    """The runtime whose preferences decide where two forms compute the same; docs/cleanup.md has the measurements."""

    ANY = "any"
    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"

    def __str__(self) -> str:
        return self.value
