"""Warm-up until inference times are stable."""

import statistics
import time

from attn_export.exporter.latency.rounds import Timed
from attn_export.exporter.records.latency import WarmUp

# An idle machine speeds up by tens of percent under load; smaller changes are noise.
STILL_FASTER = 0.03
CHUNKS = 3  # to compare with as many earlier ones
CHUNK_SECONDS = 0.02
MOST_IN_A_CHUNK = 20


def warm_up(timed: Timed, most_seconds: float) -> tuple[WarmUp, float]:
    """Run until inferences don't get faster any more; also returns the seconds of one inference at the end."""
    started = time.perf_counter()
    first = timed.turn(1, warmed=False).seconds[0]
    size = max(1, min(MOST_IN_A_CHUNK, int(CHUNK_SECONDS / max(first, 1e-9))))
    chunks: list[float] = []
    while True:
        chunks.append(statistics.median(timed.turn(size, warmed=False).seconds))
        latest, before = chunks[-CHUNKS:], chunks[-2 * CHUNKS : -CHUNKS]
        stable = len(before) == CHUNKS and statistics.median(latest) > (1 - STILL_FASTER) * statistics.median(before)
        seconds = time.perf_counter() - started
        if stable or seconds >= most_seconds:
            return WarmUp(1 + size * len(chunks), seconds, stable), statistics.median(latest)
