"""The interface of all runtimes, with the checks that they share.

`open` loads the artifact and runs one sample, so that lazy compilation and late failures happen there and not in a
measurement.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from typing_extensions import Self

from attn_export.exporter.artifacts import CPU, DEVICES, Signature
from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.records.arrays import Array, Arrays, zeros_of


@dataclass(frozen=True)
class Settings:
    """The settings that all compared runtimes share.

    Attributes:
        threads: CPU threads for one inference.
        device: one of `DEVICES`, for runtimes that support both.

    Raises:
        UsageError: the device is unknown.
    """

    threads: int
    device: str = CPU

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError(f"unknown device {self.device!r}", hint=f"Known are {', '.join(DEVICES)}.")


class Stopwatch(Protocol):
    """Two events on a device, before and after the timed work."""

    def start(self) -> None:
        """Record the first event."""

    def stop(self) -> None:
        """Record the second event."""

    def seconds(self) -> float:
        """The time between the two, once the device has finished."""


class Runtime(ABC):
    """One artifact, ready to run. Use as a context manager, or call `open` and `close`.

    Attributes:
        artifact: name of its file, None for the PyTorch module.
    """

    name: str
    device: str = CPU
    precision: str = "float32"
    artifact: str | None = None

    def __init__(self, signature: Signature, settings: Settings) -> None:
        self.signature = signature
        self.settings = settings
        self.open_seconds = 0.0
        self._is_open = False

    @property
    @abstractmethod
    def provenance(self) -> str:
        """Library, version, and provider or compiler."""

    @abstractmethod
    def _open(self) -> None:
        """Load the artifact."""

    @abstractmethod
    def infer(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run on uploaded inputs; this is timed. May return before the device has finished."""

    @abstractmethod
    def upload(self, arrays: Arrays) -> Mapping[str, Any]:
        """Copy arrays to the runtime's tensors on its device."""

    @abstractmethod
    def download(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        """Copy the runtime's tensors to arrays."""

    def synchronize(self) -> None:
        """Wait until the device has finished; no-op if `infer` is synchronous."""

    def device_stopwatch(self) -> Stopwatch | None:
        """A stopwatch on the clock of an open runtime's device, None if there is none."""
        return None

    @property
    def can_be_isolated(self) -> bool:
        """Whether another process can open a pickled copy: it needs nothing but a file."""
        return False

    def _close(self) -> None:
        """Release the resources of `_open`."""

    def open(self) -> Self:
        """Load, finish lazy compilation, and run one sample.

        Raises:
            RuntimeUnavailableError: the runtime isn't installed or can't run this artifact.
        """
        started = time.perf_counter()
        try:
            self._is_open = True
            self._open()
            sample = {taken.name: zeros_of(taken) for taken in self.signature.inputs}
            self.check_inputs(sample)
            self._run(sample)
        except (AttnExportError, KeyboardInterrupt, MemoryError):
            self.close()
            raise
        except ModuleNotFoundError as error:
            self.close()
            raise RuntimeUnavailableError(
                f"{self.name} is not installed: module {error.name} is missing",
                hint=f"pip install {error.name}, or leave {self.name} out of --runtimes.",
            ) from error
        except Exception as error:
            self.close()
            raise RuntimeUnavailableError(
                f"{self.name} can't run this artifact: {first_line(error)}", hint="--debug shows the runtime's error."
            ) from error
        self.open_seconds = time.perf_counter() - started
        return self

    def close(self) -> None:
        """Release everything; idempotent."""
        if self._is_open:
            self._is_open = False
            self._close()

    def run(self, arrays: Arrays) -> dict[str, Array]:
        """Run on arrays, with all checks.

        The arrays are (N, ...) of each input.

        Raises:
            UsageError: the input has the wrong name, dtype or shape.
            RuntimeUnavailableError: the artifact fails on a shape that its signature allows.
        """
        self.check_inputs(arrays)
        try:
            return self._run(arrays)
        except (AttnExportError, MemoryError):
            raise
        except Exception as error:  # each runtime has its own classes
            shape = ", ".join(str(array.shape) for array in arrays.values())
            raise RuntimeUnavailableError(
                f"{self.name} can't run this artifact on {shape}: {first_line(error)}",
                hint="Was a size hard-coded at export? --debug shows the runtime's error.",
            ) from error

    def _run(self, arrays: Arrays) -> dict[str, Array]:
        outputs = self.infer(self.upload(arrays))
        self.synchronize()
        return self.download(outputs)

    def check_inputs(self, arrays: Arrays) -> None:
        """Check inputs against the signature.

        Raises:
            UsageError: with the tensor's name, the actual and the expected value.
        """
        names = self.signature.input_names
        if set(arrays) != set(names):
            takes = f"input{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
            raise UsageError(f"{self.name} takes the {takes}, got {', '.join(arrays) or 'none'}")
        for taken in self.signature.inputs:
            array = arrays[taken.name]
            if array.dtype != taken.dtype:
                raise UsageError(f"{taken.name} is {array.dtype}; expected is {taken.dtype}")
            if not taken.takes(array.shape):
                raise UsageError(
                    f"{taken.name} has shape {array.shape}; expected is {str(taken).removeprefix(taken.name).strip()}"
                )

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
