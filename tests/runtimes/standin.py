"""STAND-INS, not TensorRT and no GPU: what the binding logic is tested with on machines that have neither.

The "engine" is an ONNX file behind a few bytes, the "GPU" is main memory. Work is done when the stream is waited for,
by ONNX Runtime, on raw addresses, so that a wrong address, shape, type or order gives wrong numbers or none. Calls fail
as TensorRT's do: with None or False, and words in the log only. What the real one has is known from its bindings
(tests/engine/test_conformance.py), what it does from machines with a GPU.
"""

import ctypes
import enum
import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from attn_export.exporter.artifacts import Axis, Input, Signature
from attn_export.exporter.engine.sidecar import sidecar_path, this_platform
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.runtimes.device_memory import Block, DeviceMemory, Replay
from attn_export.exporter.system.files import sha256_of

VERSION = "99.1.2"
STREAM = 4711
MAGIC = {"tensorrt-rtx": b"vtrt", "tensorrt": b"ftrt"}
LARGEST_BATCH = 8
SIGNATURE = Signature((Input("input", (2, 3, 12, 12), axes=(Axis("batch", 0),)),), ("output", "gates"))
Dtype = np.dtype[Any]


class Gpu(DeviceMemory):
    """Main memory with a stream: what is asked for is done when somebody waits."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.can_record = True
        self.recorded = self.replayed = self.enqueued = 0
        self.done = 0  # inferences
        self.graphs: set[int] = set()  # those that live, by what they do
        self.released: list[str] = []
        self.waits = 0

    stream = STREAM

    def submit(self, stream: int, job: Callable[[], None]) -> None:
        assert stream == STREAM, "not on the runtime's own stream"
        self.enqueued += 1
        (self.queue if self.recording is None else self.recording).append(job)

    def allocate(self, shape: Sequence[int], dtype: Dtype) -> Block:
        array = np.full(tuple(shape), np.nan if dtype.kind == "f" else 77, dtype)
        return Block(array.ctypes.data, tuple(shape), dtype, array)

    def upload(self, array: np.ndarray[Any, Any]) -> Block:
        block = self.allocate(array.shape, array.dtype)
        block.owner[...] = array
        return block

    def download(self, block: Block) -> np.ndarray[Any, Any]:
        self.synchronize()
        return np.array(block.owner)

    def synchronize(self) -> None:
        self.waits += 1
        while self.queue:
            self.queue.pop(0)()

    def record(self, work: Callable[[], None]) -> Replay:
        assert not self.queue, "recorded while the stream was at work"
        if not self.can_record:
            raise RuntimeUnavailableError("the GPU failed: capture says cudaErrorStreamCaptureUnsupported")
        self.recorded += 1
        jobs: list[Callable[[], None]] = []
        self.recording = jobs
        self.graphs.add(id(jobs))
        work()
        self.recording = None
        recorder = self

        class Graph:
            def __call__(self) -> None:
                recorder.replayed += 1
                recorder.queue += jobs

            def __del__(self) -> None:
                recorder.graphs.remove(id(jobs))
                recorder.released.append("graph")

        return Graph()

    def stopwatch(self) -> "StandInEvents":
        return StandInEvents(self)

    def close(self) -> None:
        self.released.append("stream")


class StandInEvents:
    """Events take their place in the queue, and are stamped with how much work was done before."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.stamps: dict[str, int] = {}

    def _record(self, event: str) -> None:
        assert self.gpu.recording is None, "an event was recorded into a graph"
        self.stamps.pop(event, None)
        self.gpu.queue.append(lambda: self.stamps.__setitem__(event, self.gpu.done))

    def start(self) -> None:
        self._record("before")

    def stop(self) -> None:
        self._record("after")

    def seconds(self) -> float:
        assert set(self.stamps) == {"before", "after"}, "read before the stream was waited for"
        return (self.stamps["after"] - self.stamps["before"]) / 1e3


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BF16, INT64, BOOL = range(7)


DATA_TYPES = {
    1: DataType.FLOAT,
    6: DataType.INT32,
    7: DataType.INT64,
    9: DataType.BOOL,
    10: DataType.HALF,
    16: DataType.BF16,
}
KINDS = {DataType.FLOAT: "f4", DataType.HALF: "f2", DataType.INT64: "i8", DataType.BOOL: "?"}


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


DIAGNOSTICS = enum.IntFlag(
    "DIAGNOSTICS",
    "VERSION_MISMATCH UNSUPPORTED_CC OLD_CUDA_DRIVER OLD_CUDA_RUNTIME INSUFFICIENT_GPU_MEMORY MALFORMED_ENGINE "
    "CUDA_ERROR",
)


class StandInTensorRT:
    """The module, for one GPU.

    Args:
        gpu: where engines run.
        name: which of the two it stands for.
    """

    __version__ = VERSION
    logger: Any = None
    EngineValidity: Any  # as the other enumerations of RTX: there or not
    CudaGraphStrategy: Any

    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu, self.is_rtx = gpu, name == "tensorrt-rtx"
        self.refuse = ""  # the call that fails
        self.calls: list[str] = []
        self.validity: tuple[Any, int] | None = None
        self.DataType, self.TensorIOMode = DataType, TensorIOMode
        released = gpu.released

        class ILogger:
            def log(self, severity: int, message: str) -> None:
                raise NotImplementedError

            def __del__(self) -> None:
                released.append("logger")

        self.ILogger = ILogger
        if self.is_rtx:
            self._add_what_only_rtx_has()

    def _add_what_only_rtx_has(self) -> None:
        enums = {
            "ComputeCapability": "NONE CURRENT SM86 SM89",
            "CudaGraphStrategy": "DISABLED WHOLE_GRAPH_CAPTURE",
            "DynamicShapesKernelSpecializationStrategy": "LAZY EAGER NONE",
            "EngineValidity": "VALID SUBOPTIMAL INVALID",
        }
        for name, members in enums.items():
            setattr(self, name, enum.Enum(name, members))
        self.EngineInvalidityDiagnostics = DIAGNOSTICS

    def allowed(self, call: str) -> bool:
        self.calls.append(call)
        if call == self.refuse:
            logger = self.logger()
            logger.log(2, "a warning")
            logger.log(1, f"IStandIn::{call}: Error Code 9\nsecond line")
            logger.log(1, "catchCudaError: cudaError 35")
            return False
        return True

    def Runtime(self, logger: Any) -> Any:
        # The real one holds what it was made of. Here nobody does, so that the order of release is our own.
        self.logger = weakref.ref(logger)
        return StandInRuntime(self) if self.allowed("Runtime") else None


class StandInRuntime:
    def __init__(self, trt: StandInTensorRT) -> None:
        self.trt = trt

    def get_engine_validity(self, plan: bytes) -> tuple[Any, int]:
        assert self.trt.is_rtx
        self.trt.calls.append("get_engine_validity")
        return self.trt.validity or (self.trt.EngineValidity.VALID, 0)

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return StandInEngine(self, plan) if self.trt.allowed("deserialize_cuda_engine") else None

    def __del__(self) -> None:
        self.trt.gpu.released.append("runtime")


class StandInEngine:
    def __init__(self, runtime: StandInRuntime, plan: bytes) -> None:
        self.trt = runtime.trt
        self.model = onnx.load_from_string(plan[4:])
        self.tensors = {v.name: v for v in (*self.model.graph.output, *self.model.graph.input)}

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        is_input = name in {v.name for v in self.model.graph.input}
        return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DATA_TYPES[self.tensors[name].type.tensor_type.elem_type]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert index == 0
        rest = [d.dim_value for d in self.tensors[name].type.tensor_type.shape.dim][1:]
        return [(n, *rest) for n in (1, 1, LARGEST_BATCH)]

    def create_runtime_config(self) -> Any:
        assert self.trt.is_rtx
        return StandInRuntimeConfig(self.trt) if self.trt.allowed("create_runtime_config") else None

    def create_execution_context(self, config: Any = None) -> Any:
        assert (config is not None) == self.trt.is_rtx
        self.config = config
        return StandInContext(self) if self.trt.allowed("create_execution_context") else None

    def __del__(self) -> None:
        self.trt.gpu.released.append("engine")


class StandInRuntimeConfig:
    def __init__(self, trt: StandInTensorRT) -> None:
        self.stubborn = trt.refuse == "settings"
        self.__dict__["cuda_graph_strategy"] = trt.CudaGraphStrategy.DISABLED
        self.__dict__["dynamic_shapes_kernel_specialization_strategy"] = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "stubborn" or not self.stubborn:
            self.__dict__[name] = value


class StandInContext:
    def __init__(self, engine: StandInEngine) -> None:
        import onnxruntime

        self.trt, self.tensors = engine.trt, engine.tensors
        self.dtypes = {name: engine.get_tensor_dtype(name) for name in engine.tensors}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        content = engine.model.SerializeToString()
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in engine.model.graph.input]
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.recorded: Any = None

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        assert name in self.inputs
        assert shape[0] <= LARGEST_BATCH, "TensorRT saw a shape outside of the profile"
        assert id(self.recorded) not in self.trt.gpu.graphs, (
            "the context changes under a graph that was recorded from it"
        )
        self.shapes[name] = tuple(shape)
        return self.trt.allowed("set_input_shape")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if not self.trt.allowed("get_tensor_shape"):
            return (-1, *self._shape(name)[1:])
        return self._shape(name)

    def _shape(self, name: str) -> tuple[int, ...]:
        assert set(self.shapes) == set(self.inputs), "TensorRT needs a shape for each input"
        dims = self.tensors[name].type.tensor_type.shape.dim
        return tuple(d.dim_value or self.shapes[self.inputs[0]][0] for d in dims)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.trt.allowed("set_tensor_address")

    def execute_async_v3(self, stream: int) -> bool:
        if not self.trt.allowed("execute_async_v3"):
            return False
        gpu, session, given = self.trt.gpu, self.session, dict(self.shapes)
        addresses, shapes = dict(self.addresses), {name: self._shape(name) for name in self.tensors}
        assert set(addresses) == set(self.tensors), "TensorRT needs an address for each tensor"
        kinds = {name: np.dtype(KINDS[self.dtypes[name]]) for name in self.tensors}

        def read(name: str) -> Any:
            count = int(np.prod(given[name]))
            return np.frombuffer(_memory(addresses[name], count * kinds[name].itemsize), kinds[name]).reshape(
                given[name]
            )

        def job() -> None:
            names = [name for name in shapes if name not in given]
            for name, result in zip(names, session.run(names, {name: read(name) for name in given}), strict=True):
                assert result.shape == shapes[name]
                assert result.dtype == np.dtype(kinds[name])
                ctypes.memmove(addresses[name], np.ascontiguousarray(result).ctypes.data, result.nbytes)
            gpu.done += 1

        self.trt.gpu.submit(stream, job)
        self.recorded = self.trt.gpu.recording or self.recorded
        return True

    def __del__(self) -> None:
        self.trt.gpu.released.append("context")


def _memory(address: int, size: int) -> bytes:
    return ctypes.string_at(address, size)


# The network: a convolution, a gate, a sum; two outputs and one more that the network doesn't have.


def network(kind: int = TensorProto.FLOAT, extra: str = "") -> onnx.ModelProto:
    """(N, 3, 12, 12) to "output" (N, 4) and "gates" (N, 4, 1, 1)."""
    draw = np.random.default_rng(0)
    numpy_kind = helper.tensor_dtype_to_np_dtype(kind)
    weights = {"w": (4, 3, 3, 3), "a": (2, 4, 1, 1), "b": (4, 2, 1, 1)}
    initializers = [
        numpy_helper.from_array(draw.standard_normal(s).astype(numpy_kind), name) for name, s in weights.items()
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], pads=[1] * 4, name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Conv", ["p", "a"], ["h"], name="fc1"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "b"], ["s"], name="fc2"),
        helper.make_node("Sigmoid", ["s"], ["gates"], name="gate"),
        helper.make_node("Mul", ["c", "gates"], ["m"], name="mul"),
        helper.make_node("GlobalAveragePool", ["m"], ["q"], name="head"),
        helper.make_node("Flatten", ["q"], ["output"], name="flatten"),
    ]
    outputs: dict[str, list[str | int | None]] = {"gates": ["batch", 4, 1, 1], "output": ["batch", 4]}
    if extra:
        nodes.append(helper.make_node("Relu", ["output"], [extra], name="extra"))
        outputs[extra] = ["batch", 4]
    graph = helper.make_graph(
        nodes,
        "se",
        [helper.make_tensor_value_info("input", kind, ["batch", 3, 12, 12])],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_engine(path: Path, name: str, model: onnx.ModelProto | None = None, **changes: Any) -> Path:
    """An "engine" and its record, in which ``changes`` are made."""
    path.write_bytes(MAGIC[name] + (model or network()).SerializeToString())
    sizes = [[n, 3, 12, 12] for n in (1, 1, LARGEST_BATCH)]
    record = {
        "schema_version": SCHEMA_VERSION,
        "created": "2026-01-01T00:00:00+00:00",
        "failed": {},
        "onnx": {"path": "model.onnx", "sha256": "", "weights_sha256": {}},
        "bundle": None,
        "attention": [],
        "cost": {"kernels": None, "kernels_without_attention": None, "blocks": []},
        "kernels": {"kernels": [], "source": ""},
        "build": {"seconds": 1.0, "peak_bytes": None},
        "environment": {"platform": "", "python": "", "cpu": "", "cpus": 1, "packages": {}},
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "backend": {"name": name, "version": VERSION},
        "gpus": ["sm86"],
        "platform": this_platform(),
        "profile": {"input": dict(zip(("min", "opt", "max"), sizes, strict=True))},
        "io": {"inputs": {}, "outputs": {}},
        "precision": {"requested": "fp32", "graph": ["FLOAT"], "kernels": ["FLOAT"], "mixed": []},
        "options": {},
        **changes,
    }
    sidecar_path(path).write_text(json.dumps(record))
    return path
