"""Times runtimes against each other, interleaved."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from attn_export.exporter.artifacts import CPU, Input
from attn_export.exporter.latency.conditions import Watch
from attn_export.exporter.latency.isolated import Isolated, requires_isolation
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.latency.rounds import Timed
from attn_export.exporter.records.latency import Latency, Schedule
from attn_export.exporter.records.timing_warnings import latency_warnings
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.system.affinity import pinned
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.system.progress import Progress

Candidate = tuple[str, Runtime]  # its name, and the unopened runtime


@dataclass(frozen=True)
class TimingSettings:
    """Settings of an interleaved timing.

    Attributes:
        schedule: rounds, seconds and confidence.
        threads: of each runtime.
        cpus: to pin all runtimes to; None: no pinning.
        isolate: time each runtime of a file in an isolated worker; others only if required.
    """

    schedule: Schedule
    threads: int
    cpus: tuple[int, ...] | None = None
    isolate: bool = False

    def pin(self) -> AbstractContextManager[Any]:
        """Pin all threads and processes to ``cpus``. Raises UsageError: they aren't available."""
        return pinned(self.cpus) if self.cpus else nullcontext()


def time_interleaved(
    candidates: Sequence[Candidate], inputs: Sequence[Input], settings: TimingSettings, progress: Progress
) -> Latency:
    """Time runtimes against each other at one shape of each input.

    The first candidate is the baseline. Warnings about the timing are notes.

    Raises:
        RuntimeUnavailableError: one can't be opened.
        UsageError: one can't be isolated, or the CPUs aren't available.
    """
    from attn_export.exporter.network.values import timed_inputs

    nothing = Latency(settings.threads, settings.cpus or usable_cpu_numbers(), settings.schedule)
    if not candidates:
        return nothing
    watch = Watch(gpu=any(runtime.device != CPU for _, runtime in candidates))
    with settings.pin(), ExitStack() as stack:
        opened: list[Runtime | Timed] = []
        for name, runtime in _isolated(candidates, settings):
            with progress.stage(f"Opening {name}"):
                stack.enter_context(runtime)
            opened.append(runtime)
        with progress.stage("Timing, interleaved") as advance:
            watch.start()
            found = measure(opened, timed_inputs(inputs), settings.schedule, advance, between_rounds=watch.sample)
            run = structs.replace(found.run, conditions=watch.stop())
    latency = structs.replace(nothing, runs=(run,), timings=found.timings)
    for warning in latency_warnings(latency):
        progress.note(warning)
    return latency


def _isolated(candidates: Sequence[Candidate], settings: TimingSettings) -> Iterator[tuple[str, Runtime | Isolated]]:
    """The candidates, in isolated workers if required or requested."""
    required = requires_isolation([runtime for _, runtime in candidates])
    for name, runtime in candidates:
        requested = settings.isolate and runtime.can_be_isolated
        yield name, Isolated(runtime) if requested or runtime in required else runtime
