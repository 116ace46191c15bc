"""Bounds for running what others wrote: some graphs need all memory, or never end."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.scratch import LEDGER

if sys.platform == "linux":
    import resource

LEAST_BYTES = 2 * 2**30
WORKSPACE, PER_BYTE = 5 * 2**28, 32
SECONDS, SECONDS_PER_MIB = 300, 10  # of each CPU; a large network may be slow on a small machine


@contextmanager
def bounded_work(file_bytes: int, parts: int = 1) -> Iterator[None]:
    """Bounds of memory and processor time for work on a file of this size, weights included."""
    seconds = usable_cpus() * (SECONDS + SECONDS_PER_MIB * (file_bytes >> 20))
    with bounded_memory(file_bytes, parts), bounded_time(seconds):
        yield


@contextmanager
def bounded_memory(file_bytes: int | None = None, parts: int = 1) -> Iterator[None]:
    """Within the context the process gets no more memory than half of what is available now, at least 2 GiB.

    With the size of a file it gets no more than 1.25 GiB and 32 bytes for each byte of the file: what a small file
    asks for stays small, and large networks have room for their maps.

    Allocations beyond fail, as if memory had run out. Only Linux keeps the limit; addresses that are only reserved, as
    CUDA does by the terabyte, don't count.

    Args:
        file_bytes: of the file that is worked on, weights included.
        parts: the context gets one of so many equal parts.
    """
    if sys.platform != "linux":
        yield
        return
    room = max(LEAST_BYTES, psutil.virtual_memory().available // 2)
    if file_bytes is not None:
        room = min(room, WORKSPACE + PER_BYTE * file_bytes)
    with _limited(resource.RLIMIT_DATA, psutil.Process().memory_info().data + room // parts):
        yield


@contextmanager
def bounded_time(seconds: float) -> Iterator[None]:
    """Within the context the program's child takes no more processor time, summed over its threads.

    SIGXCPU ends it then, whatever native code it is in, and the parent says so. From Python there is no limit: the
    process is the user's.
    """
    if sys.platform != "linux" or LEDGER not in os.environ:
        yield
        return
    with _limited(resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds)):
        yield


@contextmanager
def _limited(kind: int, most: int) -> Iterator[None]:
    """A limit of the process for a while; it never exceeds the one that there is."""
    soft, hard = resource.getrlimit(kind)
    limit = min(n for n in (most, soft, hard) if n != resource.RLIM_INFINITY)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextmanager
def alarm(seconds: float, ring: Callable[[], None]) -> Iterator[None]:
    """Within the context, call a function in another thread once the time is over."""
    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
