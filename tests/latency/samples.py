"""What the tests of runtimes in processes of their own have in common."""

import os
import time

import numpy as np

from attn_export.exporter.artifacts import Axis, Input, Signature
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.runtimes.base import Settings

ONE = Settings(threads=1)
SIGNATURE = Signature(
    (Input("input", (2, 3, 8, 8), axes=(Axis("batch", 0), Axis("height", 2), Axis("width", 3))),), ("output",)
)


def images(batch: int = 2, size: int = 8) -> Arrays:
    return {"input": np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)}


def is_there(pid: int | None) -> bool:
    """Whether the process lives, or waits to be asked how it ended."""
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int, seconds: float = 600) -> None:
    ends = time.monotonic() + seconds
    while is_there(pid):
        assert time.monotonic() < ends, "it is still there"
        time.sleep(0.02)
