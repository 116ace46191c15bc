"""Bounds for running what others wrote: some graphs need all memory, or never end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

resource: Any
try:
    import resource
except ImportError:  # Windows
    resource = None

LEAST_BYTES = 2 * 2**30


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Within the context the process gets no more than half of the memory that is available now, at least 2 GiB.

    Allocations beyond fail, as if memory had run out. Only Linux keeps the limit.
    """
    if resource is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    more = max(LEAST_BYTES, psutil.virtual_memory().available // 2)
    wanted = psutil.Process().memory_info().vms + more
    limit = min(n for n in (wanted, soft, hard) if n != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


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
