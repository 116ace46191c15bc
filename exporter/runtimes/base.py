"""What every runtime offers. Checks and bookkeeping are here, so a runtime is only what is its own.

A runtime is made from one artifact and one settings object. `open` loads it and runs one sample, so that whatever
compiles or fails late does it there and not inside a measurement.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from typing_extensions import Self

from attn_export.exporter.artifacts import CPU, DEVICES, Signature
from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.records.arrays import Array, Arrays


@dataclass(frozen=True)
class Settings:
    """Alike for all runtimes that are compared.

    Attributes:
        threads: CPU threads that one inference may use.
        device: of `DEVICES`; where a runtime runs that can run on either.

    Raises:
        UsageError: there is no such device.
    """

    threads: int
    device: str = CPU

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError(f"there is no device called {self.device!r}", hint=f"Known are {', '.join(DEVICES)}.")


class Stopwatch(Protocol):
    """Two events on a device, before and after what is timed there."""

    def start(self) -> None:
        """Record the first event."""

    def stop(self) -> None:
        """Record the second."""

    def seconds(self) -> float:
        """Between the two, once the device has finished."""


class Runtime(ABC):
    """One artifact, ready to run. Use as a context manager, or call `open` and `close`.

    Attributes:
        artifact: name of the file that it runs, None where it runs the module itself.
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
        """What really runs: library, version, and the provider or compiler that was chosen."""

    @abstractmethod
    def _open(self) -> None:
        """Load the artifact."""

    @abstractmethod
    def infer(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run on what `upload` made; returns at once where the device works on its own. This is what is timed."""

    @abstractmethod
    def upload(self, arrays: Arrays) -> Mapping[str, Any]:
        """Arrays to the runtime's own tensors on its own device."""

    @abstractmethod
    def download(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        """The runtime's tensors to arrays."""

    def synchronize(self) -> None:
        """Wait until the device has finished. Nothing to do where `infer` returns finished results."""

    def device_stopwatch(self) -> Stopwatch | None:
        """Of an open runtime, what reads its device's own clock; None where that can't be read."""
        return None

    @property
    def can_be_isolated(self) -> bool:
        """Whether another process can open a pickled copy: it runs a file, and nothing that only this process has."""
        return False

    def _close(self) -> None:
        """Give back what `_open` took."""

    def open(self) -> Self:
        """Load, finish lazy compilation, and run one sample.

        Raises:
            RuntimeUnavailableError: the runtime isn't there or can't run this artifact.
        """
        started = time.perf_counter()
        try:
            self._is_open = True
            self._open()
            sample = np.zeros(self.signature.input_shape, np.float32)
            self.check_inputs({self.signature.input_name: sample})
            self._run({self.signature.input_name: sample})
        except (AttnExportError, KeyboardInterrupt, MemoryError):
            self.close()
            raise
        except ModuleNotFoundError as error:
            self.close()
            raise RuntimeUnavailableError(
                f"{self.name} is not installed: there is no module {error.name}",
                runtime=self.name,
                hint=f"pip install {error.name}, or leave {self.name} out of --runtimes.",
            ) from error
        except Exception as error:
            self.close()
            raise RuntimeUnavailableError(
                f"{self.name} can't run this artifact: {str(error).partition(chr(10))[0] or type(error).__name__}",
                runtime=self.name,
                hint="--debug shows the runtime's own report.",
            ) from error
        self.open_seconds = time.perf_counter() - started
        return self

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._close()

    def run(self, arrays: Arrays) -> dict[str, Array]:
        """Arrays in, arrays out, with every check.

        Args:
            arrays: the one input, (N, C, H, W) float32.

        Raises:
            UsageError: the input has another name, dtype or shape than the artifact takes.
            RuntimeUnavailableError: the artifact says that it takes this shape, and doesn't.
        """
        self.check_inputs(arrays)
        try:
            return self._run(arrays)
        except (AttnExportError, MemoryError):
            raise
        except Exception as error:  # every runtime has classes of its own
            shape = arrays[self.signature.input_name].shape
            raise RuntimeUnavailableError(
                f"{self.name} can't run this artifact on {shape}: {first_line(error)}",
                runtime=self.name,
                hint="Was a size written into it when it was exported? --debug shows the runtime's own report.",
            ) from error

    def _run(self, arrays: Arrays) -> dict[str, Array]:
        outputs = self.infer(self.upload(arrays))
        self.synchronize()
        return self.download(outputs)

    def check_inputs(self, arrays: Arrays) -> None:
        """Compare with the signature.

        Raises:
            UsageError: it doesn't fit; the message names the tensor, what came and what was expected.
        """
        signature = self.signature
        if set(arrays) != {signature.input_name}:
            raise UsageError(f"{self.name} takes the input {signature.input_name!r}, got {', '.join(arrays) or 'none'}")
        array = arrays[signature.input_name]
        if array.dtype != np.float32:
            raise UsageError(f"{signature.input_name} is {array.dtype}; expected is float32")
        smallest = {axis.index: axis.minimum for axis in signature.axes}
        fits = len(array.shape) == len(signature.input_shape) and all(
            size >= smallest[i] if i in smallest else size == signature.input_shape[i]
            for i, size in enumerate(array.shape)
        )
        if not fits:
            names = {axis.index: axis.name for axis in signature.axes}
            expected = ", ".join(names.get(i, str(size)) for i, size in enumerate(signature.input_shape))
            raise UsageError(f"{signature.input_name} has shape {array.shape}; expected is ({expected})")

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
