"""Everything that was made, timed against each other."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from attn_export.exporter.artifacts import CPU
from attn_export.exporter.latency.affinity import pinned
from attn_export.exporter.latency.conditions import Watch
from attn_export.exporter.latency.isolated import Isolated, requires_isolation
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.latency.rounds import Timed
from attn_export.exporter.records.latency import Latency, Schedule
from attn_export.exporter.records.timing_warnings import timing_warnings
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.system.progress import Progress

Candidate = tuple[str, Runtime]  # what people call it, and what runs; not open


@dataclass(frozen=True)
class TimingSettings:
    """How runtimes are timed together.

    Attributes:
        schedule: how much.
        threads: that each of them was told to use.
        cpus: that all of them are to use; None: those that the process may.
        isolate: time each runtime of a file in an isolated worker; those that must be are isolated anyway.
    """

    schedule: Schedule
    threads: int
    cpus: tuple[int, ...] | None = None
    isolate: bool = False

    def kept_to_cpus(self) -> AbstractContextManager[Any]:
        """Inside, all threads and processes are on these CPUs.

        Raises:
            UsageError: they can't be had.
        """
        return pinned(self.cpus) if self.cpus else nullcontext()


def time_interleaved(
    wanted: Sequence[Candidate], shape: tuple[int, ...], together: TimingSettings, progress: Progress
) -> Latency:
    """Time these against each other, at one shape.

    Args:
        wanted: the first is the baseline; none: nothing is timed.
        shape: (N, C, H, W).
        together: how.
        progress: receives stages and notes, and of what makes the figures doubtful.

    Raises:
        RuntimeUnavailableError: one can't be opened.
        UsageError: one can't be isolated, or the CPUs can't be had.
    """
    import numpy as np

    nothing = Latency(together.threads, together.cpus or usable_cpu_numbers(), together.schedule)
    if not wanted:
        return nothing
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    watch = Watch(gpu=any(runtime.device != CPU for _, runtime in wanted))
    with together.kept_to_cpus(), ExitStack() as stack:
        opened: list[Runtime | Timed] = []
        for name, runtime in _placed(wanted, together):
            with progress.stage(f"Opening {name}"):
                stack.enter_context(runtime)
            opened.append(runtime)
        with progress.stage("Timing, in turns") as advance:
            watch.start()
            found = measure(opened, images, together.schedule, advance, between_rounds=watch.sample)
            run = structs.replace(found.run, conditions=watch.stop())
    for doubt in (*timing_warnings(found.timings, run, together.schedule), *watch.notes):
        progress.note(doubt)
    return structs.replace(nothing, runs=(run,), timings=found.timings)


def _placed(wanted: Sequence[Candidate], together: TimingSettings) -> Iterator[tuple[str, Runtime | Isolated]]:
    """Each as it is opened: here, or in an isolated worker where it must be or `isolate` says so."""
    apart = requires_isolation([runtime for _, runtime in wanted])
    for name, runtime in wanted:
        wants = together.isolate and runtime.can_be_isolated
        yield name, Isolated(runtime) if wants or runtime in apart else runtime
