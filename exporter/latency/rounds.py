"""Times the inferences of one runtime in a round, in this process or a worker."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.network.values import FLOATS, timed_inputs
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.runtimes.base import Runtime

HOST, EVENTS = "host", "host, and CUDA events"
SHARED, OWN = "shared", "own"


@dataclass(frozen=True)
class RoundTimes:
    """The times of one runtime in one round.

    Attributes:
        seconds: of each inference, by the host's clock.
        device_seconds: of each inference, between two events on the device; None without events.
    """

    seconds: tuple[float, ...]
    device_seconds: tuple[float, ...] | None = None


class Timed(Protocol):
    """A candidate of an interleaved timing.

    Attributes:
        name: of the runtime.
        artifact: name of its file, None for the PyTorch module.
        provenance, device, precision, open_seconds: as in `Runtime`.
        clock: the clocks in use.
        process: "shared" with the others, or its "own".
    """

    name: str
    artifact: str | None

    @property
    def provenance(self) -> str: ...  # noqa: D102

    device: str
    precision: str
    open_seconds: float
    clock: str
    process: str

    def load(self, arrays: Arrays) -> None:
        """Copy a batch, (N, ...) of each input in the network's order, to the device, for all following rounds."""

    def turn(self, inferences: int, *, warmed: bool = True) -> RoundTimes:
        """Time inferences.

        With ``warmed`` an untimed one precedes: it refills the caches and lets the others' threads go to sleep.
        """

    def close(self) -> None:
        """Free the batch."""


def images_for(signature: Signature, arrays: Arrays) -> Arrays:
    """A batch for an artifact: that of the others, or as many pixels where it takes these instead."""
    given = signature.feeds(arrays)
    if all((given[own.name].dtype.kind == "f") is (own.dtype in FLOATS) for own in signature.inputs):
        return given
    return timed_inputs([own.with_batch(len(given[own.name])) for own in signature.inputs])


class InProcess:
    """A runtime of this process."""

    process = SHARED

    def __init__(self, runtime: Runtime) -> None:
        """``runtime`` is open; the caller closes it."""
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
        """The runtime's provenance."""
        return self._runtime.provenance

    def load(self, arrays: Arrays) -> None:
        """Copy a batch to the device."""
        self._inputs = self._runtime.upload(images_for(self._runtime.signature, arrays))

    def turn(self, inferences: int, *, warmed: bool = True) -> RoundTimes:
        """Time inferences, see `Timed.turn`."""
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
        """Free the batch."""
        self._inputs = None
