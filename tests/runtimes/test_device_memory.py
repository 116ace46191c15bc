"""Which library holds arrays on the GPU, and the one through cuda-python, on a STAND-IN for CUDA's runtime.

The stand-in has the forms of the real module's functions (a code and the results, of cuda-bindings 12.9), and main
memory. `TorchMemory` needs a GPU and isn't run here.
"""

import ctypes
import enum
import gc
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.runtimes.device_memory import CudaMemory, device_memory
from attn_export.exporter.system import gpus

STREAM = 4711


class Code(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


class StandInCuda:
    """cuda.bindings.runtime, in main memory."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = enum.Enum("cudaMemcpyKind", "cudaMemcpyHostToDevice cudaMemcpyDeviceToHost")
    cudaStreamCaptureMode = enum.Enum("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.log: list[str] = []
        self.fails = ""

    def _done(self, function: str, *results: Any) -> tuple[Any, ...]:
        self.log.append(function)
        if function == self.fails:
            return (Code.cudaErrorMemoryAllocation, *(None for _ in results))
        return (Code.cudaSuccess, *results)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking
        return self._done("cudaStreamCreateWithFlags", STREAM)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        assert size > 0
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return self._done("cudaMalloc", ctypes.addressof(block))

    def cudaFree(self, pointer: int) -> tuple[Any, ...]:
        del self.blocks[pointer]
        return self._done("cudaFree")

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: Any, stream: int) -> tuple[Any, ...]:
        assert stream == STREAM
        on_device = to if kind is self.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        assert on_device in self.blocks
        ctypes.memmove(to, source, size)
        return self._done("cudaMemcpyAsync")

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        results = {"cudaStreamEndCapture": ("graph",), "cudaGraphInstantiate": ("ready",)}.get(name, ())
        if not name.startswith("cuda"):
            raise AttributeError(name)
        return lambda *_: self._done(name, *results)


@pytest.fixture
def cuda() -> StandInCuda:
    return StandInCuda()


@pytest.mark.parametrize("kind", ["f4", "f2", "i8", "?"])
def test_what_goes_up_comes_down(cuda: StandInCuda, kind: str) -> None:
    memory = CudaMemory(cuda)
    array = np.arange(24).reshape(2, 3, 4).astype(kind).transpose(1, 0, 2)
    block = memory.upload(array)
    assert (block.shape, block.dtype) == (array.shape, array.dtype)
    first, second = memory.download(block), memory.download(block)
    np.testing.assert_array_equal(first, array)
    assert not np.shares_memory(first, second)
    assert memory.stream == STREAM


def test_memory_is_free_when_nobody_holds_it(cuda: StandInCuda) -> None:
    memory = CudaMemory(cuda)
    blocks = [memory.allocate(shape, np.dtype(np.float32)) for shape in ((2, 3), (0, 4), ())]
    assert [ctypes.sizeof(block) for block in cuda.blocks.values()] == [24, 1, 4]
    blocks.clear()
    gc.collect()
    assert not cuda.blocks


def test_a_graph_is_recorded_launched_and_destroyed(cuda: StandInCuda) -> None:
    memory = CudaMemory(cuda)
    cuda.log.clear()
    replay = memory.record(lambda: cuda.log.append("work"))
    replay()
    memory.synchronize()
    del replay
    gc.collect()
    memory.close()
    assert cuda.log == [
        "cudaStreamBeginCapture",
        "work",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
        "cudaGraphLaunch",
        "cudaStreamSynchronize",
        "cudaGraphExecDestroy",
        "cudaStreamDestroy",
    ]


def test_work_that_fails_ends_the_capture(cuda: StandInCuda) -> None:
    def work() -> None:
        raise RuntimeUnavailableError("refused")

    with pytest.raises(RuntimeUnavailableError, match="refused"):
        CudaMemory(cuda).record(work)
    assert cuda.log[-1] == "cudaStreamEndCapture"


@pytest.mark.parametrize(
    "function",
    ["cudaMalloc", "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphInstantiate", "cudaStreamBeginCapture"],
)
def test_every_code_is_looked_at(cuda: StandInCuda, function: str) -> None:
    memory = CudaMemory(cuda)
    cuda.fails = function
    ask = memory.record if "Capture" in function or "Graph" in function else memory.upload
    given: Any = (lambda: None) if ask == memory.record else np.zeros(3)
    with pytest.raises(RuntimeUnavailableError, match=f"the GPU failed: {function} returned cudaErrorMemoryAllocation"):
        ask(given)
    cuda.fails = ""


def cuda_python(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an import of cuda.bindings.runtime find this, or nothing."""
    bindings = types.ModuleType("cuda.bindings")
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", module)


def test_a_torch_without_cuda_is_passed_over(cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cuda_python(cuda, monkeypatch)
    assert isinstance(device_memory("tensorrt"), CudaMemory)


@pytest.mark.parametrize(("torch_is", "why"), [("absent", "torch is not installed"), ("blind", "torch can't use it")])
def test_without_either_the_error_says_how_to_get_one(torch_is: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if torch_is == "absent":
        monkeypatch.setitem(sys.modules, "torch", None)
    cuda_python(None, monkeypatch)
    with pytest.raises(
        RuntimeUnavailableError, match=f"tensorrt was not run: .*: {why}, and cuda-python is not"
    ) as caught:
        device_memory("tensorrt")
    assert "pip install cuda-python" in caught.value.hint


@pytest.mark.skipif(not gpus.found(), reason="there is no GPU here")
def test_torch_holds_arrays_on_a_real_gpu() -> None:
    memory = device_memory("tensorrt")
    array = np.random.default_rng(0).standard_normal((2, 3, 5), dtype=np.float32)
    block = memory.upload(array)
    np.testing.assert_array_equal(memory.download(block), array)
    memory.synchronize()
    memory.close()
