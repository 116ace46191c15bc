"""A runtime's turn: where the clock is read. The same code for all runtimes, in whatever process they are."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

from attn_export.exporter.records.arrays import Array
from attn_export.exporter.runtimes.base import Runtime

HOST, EVENTS = "host", "host, and CUDA events"
SHARED, OWN = "shared", "own"


@dataclass(frozen=True)
class RoundTimes:
    """What was timed in one turn.

    Attributes:
        seconds: of each inference, by the host's clock.
        device_seconds: of each, between two events on the device; None where it has none.
    """

    seconds: tuple[float, ...]
    device_seconds: tuple[float, ...] | None = None


class Timed(Protocol):
    """Something that can be timed in turns with others.

    Attributes:
        name: of the runtime.
        artifact: name of the file that it runs, None where it runs the module itself.
        provenance, device, precision, open_seconds: as `Runtime` has them.
        clock: what was read, in words.
        process: "shared" with the others, or its "own".
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def artifact(self) -> str | None: ...  # noqa: D102
    @property
    def provenance(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def open_seconds(self) -> float: ...  # noqa: D102
    @property
    def clock(self) -> str: ...  # noqa: D102
    @property
    def process(self) -> str: ...  # noqa: D102

    def load(self, images: Array) -> None:
        """Bring a batch, (N, C, H, W) float32, to the device; turns run on it until another is loaded."""

    def turn(self, inferences: int, *, warmed: bool = True) -> RoundTimes:
        """Time so many inferences.

        A turn begins with one that isn't timed: it brings the weights back into the caches and lets the threads of the
        others go to sleep. Without ``warmed`` there is none.
        """

    def close(self) -> None:
        """Let go of what `load` made."""


class InProcess:
    """A runtime of this process."""

    process = SHARED

    def __init__(self, runtime: Runtime) -> None:
        """Take a runtime that is open, and stays the caller's."""
        self._runtime = runtime
        self._inputs: Any = None
        self._stopwatch = runtime.device_stopwatch()
        self.name = runtime.name
        self.artifact = runtime.artifact
        self.device = runtime.device
        self.precision = runtime.precision
        self.open_seconds = runtime.open_seconds
        self.clock = EVENTS if self._stopwatch else HOST

    @property
    def provenance(self) -> str:
        """What really ran."""
        return self._runtime.provenance

    def load(self, images: Array) -> None:
        """Bring a batch to the device."""
        self._inputs = self._runtime.upload({self._runtime.signature.input_name: images})

    def turn(self, inferences: int, *, warmed: bool = True) -> RoundTimes:
        """Time so many inferences, see `Timed.turn`."""
        runtime, inputs, stopwatch = self._runtime, self._inputs, self._stopwatch
        if warmed:
            runtime.infer(inputs)
            runtime.synchronize()
        seconds: list[float] = []
        on_device: list[float] = []
        for _ in range(inferences):
            if stopwatch is not None:
                stopwatch.start()
            started = time.perf_counter()
            runtime.infer(inputs)
            if stopwatch is not None:
                stopwatch.stop()
            runtime.synchronize()
            seconds.append(time.perf_counter() - started)
            if stopwatch is not None:
                on_device.append(stopwatch.seconds())
        return RoundTimes(tuple(seconds), tuple(on_device) if stopwatch is not None else None)

    def close(self) -> None:
        """Let go of the batch; the runtime is closed by who opened it."""
        self._inputs = None
