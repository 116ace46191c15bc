"""The device's own clock, on STAND-INS for CUDA's events; only the last test needs a GPU."""

import enum
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attn_export.exporter.artifacts import Input, Signature
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.latency.rounds import EVENTS, HOST, InProcess
from attn_export.exporter.runtimes import tensorrt as room
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.device_memory import CudaMemory, device_memory
from attn_export.exporter.runtimes.eager import Eager
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.runtimes.onnxruntime_cuda import OnnxRuntimeCuda
from attn_export.exporter.runtimes.tensorrt import TensorRT
from attn_export.exporter.runtimes.torch_cuda import CudaEvents
from attn_export.exporter.system import gpus
from attn_export.exporter.system.gpus import Gpu as Described
from tests.runtimes.standin import SIGNATURE, Gpu, StandInTensorRT, write_engine

ONE = Settings(threads=1)
STREAM = 4711
OF_ONE_OUTPUT = Signature((Input("input", (2, 3, 12, 12)),), ("output",))


# TensorRT, both of them.


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TensorRT:
    gpu = Gpu()
    trt = StandInTensorRT(gpu, request.param)
    monkeypatch.setattr(room, "load", lambda name: Backend(name, trt))
    monkeypatch.setattr(gpus, "found", lambda: (Described("Stand-in GPU", "8.6"),))
    monkeypatch.setattr(room, "device_memory", lambda _: gpu)
    return TensorRT(write_engine(tmp_path / "m.engine", request.param), SIGNATURE, ONE)


def test_the_events_stand_right_before_and_after_one_inference(engine: TensorRT) -> None:
    with engine:
        timed = InProcess(engine)
        timed.load({"input": np.zeros((2, 3, 12, 12), np.float32)})
        turns = [timed.turn(n) for n in (1, 4)]
        clock = timed.clock
    assert clock == EVENTS
    # The stand-in's clock goes on by a millisecond with each inference.
    assert [turn.device_seconds for turn in turns] == [(0.001,), (0.001,) * 4]
    assert [len(turn.seconds) for turn in turns] == [1, 4]


def test_an_event_is_not_recorded_into_the_graph_of_a_new_input(engine: TensorRT) -> None:
    with engine:
        timed = InProcess(engine)
        for batch in (1, 3):  # the first turn on an input records it
            timed.load({"input": np.zeros((batch, 3, 12, 12), np.float32)})
            assert timed.turn(2, warmed=False).device_seconds is not None
            assert timed.turn(2).device_seconds == (0.001, 0.001)


def test_an_engine_that_is_not_open_has_no_stopwatch(engine: TensorRT) -> None:
    assert engine.device_stopwatch() is None


# Those without.


def test_runtimes_without_a_stream_that_can_be_seen_have_none(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert OnnxRuntime(path, SIGNATURE, ONE).device_stopwatch() is None
    assert OnnxRuntimeCuda(path, SIGNATURE, ONE).device_stopwatch() is None


def test_pytorch_on_the_cpu_is_timed_by_the_host_alone() -> None:
    with Eager(from_module(nn.Conv2d(3, 4, 3).eval(), (3, 12, 12)), OF_ONE_OUTPUT, ONE) as runtime:
        timed = InProcess(runtime)
        timed.load({"input": np.zeros((2, 3, 12, 12), np.float32)})
        assert timed.turn(2).device_seconds is None
        assert timed.clock == HOST


# Torch's events.


class Event:
    """torch.cuda.Event, on a clock of its own: 250 ms from one call to the next."""

    calls: list[tuple[str, Any]]

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at = 0

    def record(self, stream: Any = None) -> None:
        self.calls.append(("record", stream))
        self.at = len(self.calls)

    def synchronize(self) -> None:
        self.calls.append(("synchronize", None))

    def elapsed_time(self, later: "Event") -> float:
        return 250.0 * (later.at - self.at)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    Event.calls = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    return Event.calls


@pytest.mark.parametrize("stream", [None, "a stream of one's own"])
def test_torch_s_milliseconds_become_seconds(stream: Any, events: list[tuple[str, Any]]) -> None:
    stopwatch = CudaEvents(stream)
    for _ in range(2):
        stopwatch.start()
        stopwatch.stop()
        assert stopwatch.seconds() == 0.25
    assert events == [("record", stream), ("record", stream), ("synchronize", None)] * 2


def test_pytorch_on_cuda_has_events_on_the_current_stream(events: list[tuple[str, Any]]) -> None:
    model = from_module(nn.Conv2d(3, 4, 3).eval(), (3, 12, 12))
    stopwatch = Eager(model, SIGNATURE, Settings(threads=1, device="cuda")).device_stopwatch()
    assert stopwatch is not None
    stopwatch.start()
    assert events == [("record", None)]


# CUDA's own, through cuda-python.


class Code(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorIllegalAddress = 700


class Cuda:
    """cuda.bindings.runtime, as far as events go: each function returns a code and its results."""

    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        self.events: dict[int, int] = {}
        self.clock = 0
        self.fails = ""
        self.destroyed: list[int] = []

    def _done(self, function: str, *results: Any) -> tuple[Any, ...]:
        if function == self.fails:
            return (Code.cudaErrorIllegalAddress, *(None for _ in results))
        return (Code.cudaSuccess, *results)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self._done("cudaStreamCreateWithFlags", STREAM)

    def cudaEventCreate(self) -> tuple[Any, ...]:
        event = len(self.events) + 1
        self.events[event] = -1
        return self._done("cudaEventCreate", event)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        assert stream == STREAM
        self.clock += 3
        self.events[event] = self.clock
        return self._done("cudaEventRecord")

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        return self._done("cudaEventSynchronize")

    def cudaEventElapsedTime(self, before: int, after: int) -> tuple[Any, ...]:
        return self._done("cudaEventElapsedTime", float(self.events[after] - self.events[before]))

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        self.destroyed.append(event)
        return self._done("cudaEventDestroy")


def test_cuda_s_events_are_on_the_stream_of_the_memory_and_destroyed_with_the_stopwatch() -> None:
    cuda = Cuda()
    stopwatch = CudaMemory(cuda).stopwatch()
    for _ in range(2):
        stopwatch.start()
        stopwatch.stop()
        assert stopwatch.seconds() == 0.003
    assert not cuda.destroyed
    del stopwatch
    gc.collect()
    assert sorted(cuda.destroyed) == [1, 2]


@pytest.mark.parametrize(
    "function", ["cudaEventCreate", "cudaEventRecord", "cudaEventSynchronize", "cudaEventElapsedTime"]
)
def test_every_code_is_looked_at(function: str) -> None:
    cuda = Cuda()
    memory = CudaMemory(cuda)
    cuda.fails = function
    with pytest.raises(RuntimeUnavailableError, match=f"the GPU failed: {function} returned cudaErrorIllegalAddress"):
        time_nothing(memory)


def time_nothing(memory: CudaMemory) -> float:
    stopwatch = memory.stopwatch()
    stopwatch.start()
    stopwatch.stop()
    return stopwatch.seconds()


@pytest.mark.skipif(not gpus.found(), reason="there is no GPU here")
def test_a_real_gpu_stamps_events() -> None:
    memory = device_memory("tensorrt")
    stopwatch = memory.stopwatch()
    stopwatch.start()
    memory.upload(np.zeros((64, 3, 64, 64), np.float32))
    stopwatch.stop()
    memory.synchronize()
    assert 0 < stopwatch.seconds() < 60
    memory.close()
