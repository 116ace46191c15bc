"""TensorRT engines, of classic TensorRT and TensorRT-RTX.

An engine is a program, so its record, hash and fit to this machine are checked before TensorRT loads it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import Precision, Signature
from attn_export.exporter.engine.backend import Backend, load
from attn_export.exporter.engine.log import Log, uncollected
from attn_export.exporter.engine.sidecar import check_file, check_fits, read_sidecar
from attn_export.exporter.errors import RuntimeUnavailableError, UnreadableEngineError, UsageError, first_line
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.engine import EngineRecord, Profile, Range, fitted
from attn_export.exporter.runtimes.base import Runtime, Settings, Stopwatch
from attn_export.exporter.runtimes.device_memory import Block, DeviceMemory, Replay, device_memory
from attn_export.exporter.system import gpus

# TensorRT's names of types, and numpy's.
KINDS = {"FLOAT": "f4", "HALF": "f2", "INT8": "i1", "UINT8": "u1", "INT32": "i4", "INT64": "i8", "BOOL": "?"}
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(kind) for name, kind in KINDS.items()}
# First bytes of TensorRT-RTX engines (as of 1.7), for engines without a record.
RTX_MAGIC = b"vtrt"
RTX, CLASSIC = "tensorrt-rtx", "tensorrt"
# The diagnostics of `Runtime.get_engine_validity`, by name in `EngineInvalidityDiagnostics`.
DIAGNOSTICS = {
    "VERSION_MISMATCH": "it was built by another version of TensorRT-RTX",
    "UNSUPPORTED_CC": "it wasn't built for this GPU's architecture",
    "OLD_CUDA_DRIVER": "the driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is damaged or not an engine",
    "CUDA_ERROR": "CUDA's driver or runtime isn't installed properly",
}


@dataclass(frozen=True)
class _Binding:
    """The bound tensors of the context.

    Attributes:
        sources: the inputs, as `infer` got them.
        outputs: all of the engine's, by name.
        replay: the CUDA graph of one inference, for classic TensorRT.
    """

    sources: Mapping[str, Block]
    outputs: dict[str, Block]
    replay: Replay | None = None


class TensorRT(Runtime):
    """An engine. The next inference on the same input overwrites the outputs on the GPU.

    Kernels are launched as one CUDA graph, by TensorRT-RTX itself, or captured here for classic TensorRT. A graph is
    bound to the shape and address of the input, and captured again for another one. Nothing is cached between
    processes, so TensorRT-RTX compiles its kernels in `open`, which takes a few seconds.

    ``trust`` loads an engine without a record or with another hash.

    Raises:
        UnreadableEngineError: its record is damaged.
    """

    device = "cuda"

    def __init__(self, path: Path, signature: Signature, settings: Settings, *, trust: bool = False) -> None:
        super().__init__(signature, settings)
        self.path = path
        self.artifact = path.name
        self.trust = trust
        record = read_sidecar(path)
        self.name = _builder_of(path, record)
        self.precision = _precision_of(record)
        self._version = record.backend.version if record else ""
        self._gpu: gpus.Gpu | None = None
        self._how = ""
        self._backend: Backend | None
        self._forget()

    def _forget(self) -> None:
        """Release in reverse order: graph and arrays, context, engine, runtime, logger."""
        self._binding: _Binding | None = None
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._logger: Any = None
        self._log, self._backend = Log(), None
        self._memory: DeviceMemory | None = None
        self._profile: Profile = {}
        self._inputs: dict[str, np.dtype[Any]] = {}
        self._outputs: dict[str, np.dtype[Any]] = {}

    @property
    def provenance(self) -> str:
        """The version; while open also the GPU, and how kernels are selected and launched."""
        parts = (f"{self.name} {self._version}".strip(), self._gpu.name if self._gpu else "", self._how)
        return ", ".join(part for part in parts if part)

    @property
    def can_be_isolated(self) -> bool:
        """Always; it needs only the file."""
        return True

    def _open(self) -> None:
        record = check_file(self.path, trust=self.trust)
        self._backend = backend = load(self.name)
        self._version = backend.version
        here = gpus.found()
        if record is not None:
            check_fits(record, self.path, backend, here)
        if not here:
            raise RuntimeUnavailableError(
                f"{self.path} was not run: no GPU or no driver on this machine",
                hint="Copy the engine and its record to the device and run it there.",
            )
        self._gpu = here[0]
        self._memory = device_memory(self.name)
        self._log = Log()
        self._logger = self._log.logger(backend.trt)
        with uncollected():
            self._runtime = self._created(backend.trt.Runtime(self._logger), "runtime")
        self._engine = self._deserialized(backend, self.path.read_bytes())
        self._read_tensors(backend)
        self._profile = self._profile_of(record)
        self.signature = fitted(self.signature, self._profile)
        self._context = self._created(self._make_context(backend), "execution context")

    def _created(self, value: Any, what: str) -> Any:
        """``value``, unless TensorRT returned None."""
        if value is None:
            raise self._refused(f"creates no {what}")
        return value

    def _refused(self, what: str) -> RuntimeUnavailableError:
        """The error for a failed call, with TensorRT's message."""
        errors = self._log.errors
        return RuntimeUnavailableError(
            f"{self.name} {what}: {errors[0] if errors else 'it gives no reason'}", hint="--debug shows TensorRT's log."
        )

    def _deserialized(self, backend: Backend, plan: bytes) -> Any:
        """The engine."""
        why = _validity(backend, self._runtime, plan) if backend.is_rtx else ""
        engine = self._runtime.deserialize_cuda_engine(plan) if not why else None
        if engine is None:
            reasons = [why] if why else self._log.errors
            raise UnreadableEngineError(
                f"{backend} can't load {self.path}: {reasons[0] if reasons else 'it gives no reason'}",
                hint="Build the engine again, on this machine or for its GPU.",
            )
        return engine

    def _read_tensors(self, backend: Backend) -> None:
        """Names and types of all inputs and outputs."""
        modes = backend.trt.TensorIOMode
        self._inputs, self._outputs = {}, {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            is_input = self._engine.get_tensor_mode(name) == modes.INPUT
            (self._inputs if is_input else self._outputs)[name] = self._dtype_of(name)
        network = self.signature
        if set(self._inputs) != set(network.input_names) or not set(network.output_names) <= set(self._outputs):
            raise UnreadableEngineError(
                f"{self.path} takes {', '.join(self._inputs)} and returns {', '.join(self._outputs)}; the network "
                f"takes {', '.join(network.input_names)} and returns {', '.join(network.output_names)}",
                hint="The engine is of another network.",
            )
        for taken in network.inputs:
            if (self._inputs[taken.name].kind == "f") is not (np.dtype(taken.dtype).kind == "f"):
                raise UnreadableEngineError(
                    f"{self.path} takes {taken.name} as {self._inputs[taken.name]}, the network as {taken.dtype}",
                    hint="The engine is of another network.",
                )

    def _dtype_of(self, name: str) -> np.dtype[Any]:
        kind = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
        if kind not in DTYPES:
            raise UnreadableEngineError(
                f"{self.path} has {name} in {kind}, which numpy doesn't support",
                hint="Keep inputs and outputs in float32.",
            )
        return DTYPES[kind]

    def _profile_of(self, record: EngineRecord | None) -> Profile:
        """The engine's profile, from its record or else from the engine."""
        names = self.signature.input_names
        if record is None:
            return {
                name: Range(*(tuple(dims) for dims in self._engine.get_tensor_profile_shape(name, 0))) for name in names
            }
        if missing := [name for name in names if name not in record.profile]:
            raise UnreadableEngineError(
                f"{self.path}'s record has no shapes for {missing[0]}", hint="Build the engine again."
            )
        return record.profile

    def _make_context(self, backend: Backend) -> Any:
        """The execution context; TensorRT-RTX compiles its kernels here."""
        if not backend.is_rtx:
            return self._engine.create_execution_context()
        trt = backend.trt
        config = self._created(self._engine.create_runtime_config(), "runtime configuration")
        eager, graphs = trt.DynamicShapesKernelSpecializationStrategy.EAGER, trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # By default the first inferences of a shape use generic kernels and later ones specialized kernels.
        config.dynamic_shapes_kernel_specialization_strategy = eager
        config.cuda_graph_strategy = graphs
        # The setters report no failure.
        if (config.dynamic_shapes_kernel_specialization_strategy, config.cuda_graph_strategy) != (eager, graphs):
            raise self._refused("can't specialize kernels eagerly and launch them as one CUDA graph")
        self._how = "eager kernel specialization, CUDA graphs"
        return self._engine.create_execution_context(config)

    def _close(self) -> None:
        memory = self._memory
        if memory is not None:
            with suppress(RuntimeUnavailableError):  # nothing left to wait for after a failure
                memory.synchronize()
        self._forget()
        if memory is not None:
            memory.close()

    def upload(self, arrays: Arrays) -> Mapping[str, Block]:
        """Copy to the GPU in the engine's input type.

        Raises:
            UsageError: the engine's profile doesn't cover the shape.
        """
        assert self._memory is not None
        for name, array in arrays.items():
            self._check_shape(name, tuple(array.shape))
        return {name: self._memory.upload(array.astype(self._inputs[name])) for name, array in arrays.items()}

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        known = self._profile[name]
        if not known.covers(shape):
            low, high = known.min, known.max
            takes = f"{low}" if low == high else f"{low} to {high}"
            raise UsageError(
                f"{name} has shape {shape}; this engine takes {takes}",
                hint="Build it for this shape too: --profile-batch and --size.",
            )

    def infer(self, inputs: Mapping[str, Block]) -> Mapping[str, Block]:
        """Enqueue one inference; the first on these inputs binds them and waits."""
        # No reference to the old binding: its graph must be freed when other inputs are bound.
        if self._binding is None or self._binding.sources is not inputs:
            self._bind(inputs)
        binding = self._binding
        assert binding is not None
        if binding.replay is not None:
            binding.replay()
        else:
            self._enqueue()
        return {name: binding.outputs[name] for name in self.signature.output_names}

    def _bind(self, sources: Mapping[str, Block]) -> None:
        """Bind inputs and outputs to the context, and capture the graph."""
        assert self._memory is not None
        assert self._backend is not None
        for name, source in sources.items():
            self._check_shape(name, source.shape)
        self._memory.synchronize()
        # A graph must not outlive a change of its context.
        self._binding = None
        for name, source in sources.items():
            if not self._context.set_input_shape(name, source.shape):
                raise self._refused(f"rejects shape {source.shape} of {name}")
        outputs: dict[str, Block] = {}
        for output, dtype in self._outputs.items():
            shape = tuple(self._context.get_tensor_shape(output))
            if min(shape, default=0) < 0:
                raise self._refused(f"has no complete shape for {output}: {shape}")
            outputs[output] = self._memory.allocate(shape, dtype)
        for tensor, block in {**sources, **outputs}.items():
            if not self._context.set_tensor_address(tensor, block.pointer):
                raise self._refused(f"rejects the address of {tensor}")
        replay = None if self._backend.is_rtx else self._capture()
        self._binding = _Binding(sources, outputs, replay)

    def _capture(self) -> Replay | None:
        """The graph of one inference, after a normal one in which TensorRT makes its late allocations."""
        assert self._memory is not None
        self._enqueue()
        self._memory.synchronize()
        try:
            replay = self._memory.record(self._enqueue)
        except RuntimeUnavailableError as error:
            self._how = f"no CUDA graph ({first_line(error)})"
            return None
        self._how = "CUDA graph"
        return replay

    def _enqueue(self) -> None:
        assert self._memory is not None
        if not self._context.execute_async_v3(self._memory.stream):
            raise self._refused("can't run the engine")

    def synchronize(self) -> None:
        """Wait for the stream."""
        if self._memory is not None:
            self._memory.synchronize()

    def device_stopwatch(self) -> Stopwatch | None:
        """CUDA events on the stream of all inferences."""
        return self._memory.stopwatch() if self._memory is not None else None

    def download(self, outputs: Mapping[str, Block]) -> dict[str, Array]:
        """Copy to new arrays."""
        assert self._memory is not None
        return {name: self._memory.download(block) for name, block in outputs.items()}


def _builder_of(path: Path, record: EngineRecord | None) -> str:
    """The backend of an engine, from its record or else from its first bytes."""
    if record is not None:
        name = record.backend.name
        if name not in (RTX, CLASSIC):
            raise UnreadableEngineError(
                f"{path} was built by {name}, an unknown backend", hint="Update attn-export, or build it again."
            )
        return name
    try:
        with path.open("rb") as stream:
            return RTX if stream.read(len(RTX_MAGIC)) == RTX_MAGIC else CLASSIC
    except OSError:  # reported by `open`
        return CLASSIC


def _precision_of(record: EngineRecord | None) -> str:
    """The requested precision, or else that of most kernels."""
    if record is None:
        return "unknown"
    audit = record.precision
    if audit.requested in [str(known) for known in Precision]:
        return Precision(audit.requested).onnx_name
    types = [*audit.kernels, *audit.graph]
    return {"FLOAT": "float32"}.get(types[0], types[0].lower()) if types else "unknown"


def _validity(backend: Backend, runtime: Any, plan: bytes) -> str:
    """Why TensorRT-RTX can't load an engine; empty if it can, or if unknown, as without a driver."""
    validity, diagnostics = runtime.get_engine_validity(plan)
    if validity != backend.trt.EngineValidity.INVALID:
        return ""
    known = backend.trt.EngineInvalidityDiagnostics.__members__
    found = [DIAGNOSTICS.get(name, name) for name, bit in known.items() if int(diagnostics) & int(bit)]
    return "; ".join(found)
