"""Arrays on the GPU, through torch with CUDA or NVIDIA's cuda-python (for a Jetson without torch).

All work is on one stream, because TensorRT synchronizes the whole device on the default stream.
"""

import importlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attn_export.exporter.errors import RuntimeUnavailableError, first_line
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.runtimes.base import Stopwatch

Replay = Callable[[], None]
HINT = "Install torch with CUDA, or pip install cuda-python in the version that matches this machine's CUDA."


@dataclass(frozen=True, eq=False)
class Block:
    """An array on the GPU; its memory is freed with the object.

    Attributes:
        shape, dtype: as in numpy; contiguous.
        owner: the object that owns the memory.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any = None


class DeviceMemory(ABC):
    """The memory operations that TensorRT needs."""

    @property
    @abstractmethod
    def stream(self) -> int:
        """The handle of the stream for all work."""

    @abstractmethod
    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Block:
        """An uninitialized array."""

    @abstractmethod
    def upload(self, array: Array) -> Block:
        """A copy on the GPU; the source may be changed afterwards."""

    @abstractmethod
    def download(self, block: Block) -> Array:
        """A copy in main memory, after all enqueued work."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all enqueued work. Raises RuntimeUnavailableError: it failed."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> Replay:
        """Capture ``work`` as a CUDA graph without running it; returns a function that launches it.

        Raises:
            RuntimeUnavailableError: the work can't be captured.
        """

    @abstractmethod
    def stopwatch(self) -> Stopwatch:
        """A stopwatch on the stream."""

    def close(self) -> None:
        """Destroy the stream."""


class TorchMemory(DeviceMemory):
    """Memory in torch tensors."""

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch
        self._stream = self._torch.cuda.Stream()

    @property
    def stream(self) -> int:
        """Torch's handle."""
        return int(self._stream.cuda_stream)

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Block:
        """An empty tensor."""
        kind = self._torch.from_numpy(np.empty(0, dtype)).dtype
        with self._torch.cuda.stream(self._stream):
            return self._block(self._torch.empty(tuple(shape), dtype=kind, device="cuda"), dtype)

    def upload(self, array: Array) -> Block:
        """A new tensor."""
        with self._torch.cuda.stream(self._stream):
            return self._block(self._torch.tensor(np.ascontiguousarray(array), device="cuda"), array.dtype)

    def _block(self, tensor: Any, dtype: np.dtype[Any]) -> Block:
        return Block(int(tensor.data_ptr()), tuple(tensor.shape), dtype, tensor)

    def download(self, block: Block) -> Array:
        """Into a new array."""
        with self._torch.cuda.stream(self._stream):
            copied: Array = block.owner.to("cpu", copy=True).numpy()
        return copied

    def synchronize(self) -> None:
        """Wait for the stream."""
        try:
            self._stream.synchronize()
        except RuntimeError as error:
            raise _failed(first_line(error)) from error

    def record(self, work: Callable[[], None]) -> Replay:
        """As a torch CUDA graph."""
        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.stream(self._stream):
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    work()
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            raise _failed(first_line(error)) from error

        def replay() -> None:
            with self._torch.cuda.stream(self._stream):
                graph.replay()

        return replay

    def stopwatch(self) -> Stopwatch:
        """Torch's events."""
        from attn_export.exporter.runtimes.torch_cuda import CudaEvents

        return CudaEvents(self._stream)


class CudaMemory(DeviceMemory):
    """Memory of CUDA's runtime, through NVIDIA's cuda-python.

    https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html

    Args:
        cuda: the module `cuda.bindings.runtime`. Its functions return an error code and the results.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        (self._stream,) = self._call("cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)

    def _call(self, function: str, *args: Any) -> list[Any]:
        error, *results = getattr(self._cuda, function)(*args)
        if int(error):
            raise _failed(f"{function} returned {getattr(error, 'name', error)}")
        return results

    @property
    def stream(self) -> int:
        """CUDA's handle."""
        return int(self._stream)

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Block:
        """By cudaMalloc; cudaFree follows with the block's finalizer."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        (pointer,) = self._call("cudaMalloc", max(size, 1))
        block = Block(int(pointer), tuple(shape), dtype)
        weakref.finalize(block, self._cuda.cudaFree, int(pointer))
        return block

    def upload(self, array: Array) -> Block:
        """Synchronous, because the source may be freed or changed afterwards."""
        array = np.ascontiguousarray(array)
        block = self.allocate(array.shape, array.dtype)
        self._copy(block.pointer, array.ctypes.data, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)
        return block

    def download(self, block: Block) -> Array:
        """Into a new array."""
        array = np.empty(block.shape, block.dtype)
        self._copy(array.ctypes.data, block.pointer, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)
        return array

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        self._call("cudaMemcpyAsync", to, source, size, kind, self._stream)
        self.synchronize()

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._call("cudaStreamSynchronize", self._stream)

    def record(self, work: Callable[[], None]) -> Replay:
        """By stream capture."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        finally:
            # Always end the capture; the stream would be unusable otherwise.
            (graph,) = self._call("cudaStreamEndCapture", self._stream)
        (ready,) = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)

        def replay() -> None:
            self._call("cudaGraphLaunch", ready, self._stream)

        weakref.finalize(replay, self._cuda.cudaGraphExecDestroy, ready)
        return replay

    def stopwatch(self) -> Stopwatch:
        """CUDA events, destroyed with the stopwatch."""
        return _Events(self._cuda, self._call, self._stream)

    def close(self) -> None:
        """Destroy the stream."""
        self._call("cudaStreamDestroy", self._stream)


class _Events:
    """A stopwatch through CUDA's runtime."""

    def __init__(self, cuda: Any, call: Callable[..., list[Any]], stream: Any) -> None:
        self._call, self._stream = call, stream
        self._before, self._after = (self._event(cuda) for _ in range(2))

    def _event(self, cuda: Any) -> Any:
        (event,) = self._call("cudaEventCreate")
        weakref.finalize(self, cuda.cudaEventDestroy, event)
        return event

    def start(self) -> None:
        """Record the first event."""
        self._call("cudaEventRecord", self._before, self._stream)

    def stop(self) -> None:
        """Record the second."""
        self._call("cudaEventRecord", self._after, self._stream)

    def seconds(self) -> float:
        """The time between the two; waits for the second."""
        self._call("cudaEventSynchronize", self._after)
        (milliseconds,) = self._call("cudaEventElapsedTime", self._before, self._after)
        return float(milliseconds) / 1e3


def device_memory(runtime: str) -> DeviceMemory:
    """Memory of the installed library; torch if both are, because its allocator caches.

    Raises:
        RuntimeUnavailableError: neither is installed.
    """
    try:
        import torch
    except ImportError:
        why = "torch is not installed"
    else:
        if torch.cuda.is_available():
            return TorchMemory()
        why = "torch can't use it"
    try:
        cuda = importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{runtime} was not run: no library for arrays on the GPU: {why}, and cuda-python is not installed",
            hint=HINT,
        ) from error
    return CudaMemory(cuda)


def _failed(why: str) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(f"the GPU failed: {why}", hint="nvidia-smi shows its state.")
