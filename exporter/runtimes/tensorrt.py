"""TensorRT engines, of the classic TensorRT and of TensorRT-RTX.

An engine is a program: nothing of it reaches TensorRT before its record, its bytes and this machine were checked.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import Precision, Signature
from attn_export.exporter.engine.backend import Backend, load
from attn_export.exporter.engine.log import Log
from attn_export.exporter.engine.sidecar import check_file, check_fits, read_sidecar
from attn_export.exporter.errors import RuntimeUnavailableError, UnreadableEngineError, UsageError, first_line
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.engine import EngineRecord, Range
from attn_export.exporter.runtimes.base import Runtime, Settings, Stopwatch
from attn_export.exporter.runtimes.device_memory import Block, DeviceMemory, Replay, device_memory
from attn_export.exporter.system import gpus

# TensorRT's types by name, those that numpy has.
KINDS = {"FLOAT": "f4", "HALF": "f2", "INT8": "i1", "UINT8": "u1", "INT32": "i4", "INT64": "i8", "BOOL": "?"}
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(kind) for name, kind in KINDS.items()}
# How TensorRT-RTX's engines begin (seen in 1.7), where no record tells who built one.
RTX_MAGIC = b"vtrt"
RTX, CLASSIC = "tensorrt-rtx", "tensorrt"
# What `Runtime.get_engine_validity` finds wrong, by the names of `EngineInvalidityDiagnostics`.
DIAGNOSTICS = {
    "VERSION_MISMATCH": "it was built by another version of TensorRT-RTX",
    "UNSUPPORTED_CC": "it wasn't built for this GPU's architecture",
    "OLD_CUDA_DRIVER": "the driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU hasn't enough memory for it",
    "MALFORMED_ENGINE": "it is damaged or no engine",
    "CUDA_ERROR": "CUDA's driver or runtime isn't installed properly",
}


@dataclass(frozen=True)
class _Binding:
    """What the context reads and writes at present.

    Attributes:
        given: the input.
        outputs: all of the engine's, by name.
        replay: the CUDA graph of one inference, where this side records it.
    """

    given: Block
    outputs: dict[str, Block]
    replay: Replay | None = None


class TensorRT(Runtime):
    """An engine. Outputs stay on the GPU and are overwritten by the next inference on the same input.

    Kernels are launched as one CUDA graph: by TensorRT-RTX itself, and recorded here for the classic TensorRT. A graph
    belongs to one shape and one place in memory; it is recorded again when the input is another one. Nothing is kept
    from one process to the next, so TensorRT-RTX compiles its kernels in `open`, which takes a few seconds.

    Args:
        path: the engine, its record beside it.
        signature: of the network.
        settings: alike for all runtimes.
        trust: load an engine without a record, or one that was changed since.

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
        # Both differ from engine to engine.
        self.name = _builder_of(path, record)
        self.precision = _precision_of(record)
        self._version = record.backend.version if record else ""
        self._gpu: gpus.Gpu | None = None
        self._how = ""
        self._forget()

    def _forget(self) -> None:
        self._log = Log()
        self._backend: Backend | None = None
        self._logger: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._memory: DeviceMemory | None = None
        self._range: Range | None = None
        self._inputs: dict[str, np.dtype[Any]] = {}
        self._outputs: dict[str, np.dtype[Any]] = {}
        self._binding: _Binding | None = None

    @property
    def provenance(self) -> str:
        """The version; while it is open, also the GPU, and how kernels are chosen and launched."""
        parts = (f"{self.name} {self._version}".strip(), self._gpu.name if self._gpu else "", self._how)
        return ", ".join(part for part in parts if part)

    @property
    def can_be_isolated(self) -> bool:
        """Always: it runs a file."""
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
                f"{self.path} was not run: no GPU is here, or its driver isn't",
                runtime=self.name,
                hint="Copy the engine and its record to the device, and run it there.",
            )
        self._gpu = here[0]
        self._memory = device_memory(self.name)
        self._log = Log()
        self._logger = self._log.logger(backend.trt)
        self._runtime = self._had(backend.trt.Runtime(self._logger), "runtime")
        self._engine = self._deserialized(backend, self.path.read_bytes())
        self._read_tensors(backend)
        self._range = self._range_of(record)
        self.signature = _within(self.signature, self._range)
        self._context = self._had(self._make_context(backend), "execution context")

    def _had(self, made: Any, what: str) -> Any:
        """What TensorRT made.

        Raises:
            RuntimeUnavailableError: it made nothing.
        """
        if made is None:
            raise self._refused(f"gives no {what}")
        return made

    def _refused(self, what: str) -> RuntimeUnavailableError:
        """The error for a call that TensorRT refuses, with its own words."""
        errors = self._log.errors
        return RuntimeUnavailableError(
            f"{self.name} {what}: {errors[0] if errors else 'it gives no reason'}",
            runtime=self.name,
            hint="--debug shows everything that TensorRT said.",
        )

    def _deserialized(self, backend: Backend, plan: bytes) -> Any:
        """The engine.

        Raises:
            UnreadableEngineError: TensorRT can't load it.
        """
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
        """Names and types of all inputs and outputs.

        Raises:
            UnreadableEngineError: they aren't the network's.
        """
        modes = backend.trt.TensorIOMode
        self._inputs, self._outputs = {}, {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            is_input = self._engine.get_tensor_mode(name) == modes.INPUT
            (self._inputs if is_input else self._outputs)[name] = self._dtype_of(name)
        wanted = self.signature
        if set(self._inputs) != {wanted.input_name} or not set(wanted.output_names) <= set(self._outputs):
            raise UnreadableEngineError(
                f"{self.path} takes {', '.join(self._inputs)} and returns {', '.join(self._outputs)}; the network "
                f"takes {wanted.input_name} and returns {', '.join(wanted.output_names)}",
                hint="It is the engine of another network.",
            )
        if self._inputs[wanted.input_name].kind != "f":
            raise UnreadableEngineError(
                f"{self.path} takes {wanted.input_name} as {self._inputs[wanted.input_name]}, the network as float32",
                hint="It is the engine of another network.",
            )

    def _dtype_of(self, name: str) -> np.dtype[Any]:
        kind = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
        if kind not in DTYPES:
            raise UnreadableEngineError(
                f"{self.path} has {name} in {kind}, which numpy hasn't",
                hint="Keep inputs and outputs in float32, whatever the engine computes in.",
            )
        return DTYPES[kind]

    def _range_of(self, record: EngineRecord | None) -> Range:
        """The shapes that the engine takes: the record's word, or the engine's where there is no record.

        Raises:
            UnreadableEngineError: the record doesn't tell.
        """
        name = self.signature.input_name
        if record is None:
            low, usual, high = (tuple(dims) for dims in self._engine.get_tensor_profile_shape(name, 0))
            return Range(low, usual, high)
        if name not in record.profile:
            raise UnreadableEngineError(
                f"{self.path}'s record has no shapes for {name}", hint="Build the engine again."
            )
        return record.profile[name]

    def _make_context(self, backend: Backend) -> Any:
        """Where inference happens. TensorRT-RTX compiles its kernels here."""
        if not backend.is_rtx:
            return self._engine.create_execution_context()
        trt = backend.trt
        config = self._had(self._engine.create_runtime_config(), "runtime configuration")
        eager, graphs = trt.DynamicShapesKernelSpecializationStrategy.EAGER, trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # By default the first inferences of a shape run in kernels for any shape, and later ones in others.
        config.dynamic_shapes_kernel_specialization_strategy = eager
        config.cuda_graph_strategy = graphs
        # Setting gives no answer; what was set does.
        if (config.dynamic_shapes_kernel_specialization_strategy, config.cuda_graph_strategy) != (eager, graphs):
            raise self._refused("can't specialize kernels at once and launch them as one CUDA graph")
        self._how = "eager kernel specialization, CUDA graphs"
        return self._engine.create_execution_context(config)

    def _close(self) -> None:
        """Each before what it was made of: graph and arrays, context, engine, runtime, logger, stream."""
        memory = self._memory
        if memory is not None:
            with suppress(RuntimeUnavailableError):  # a GPU that failed has nothing left to wait for
                memory.synchronize()
        self._binding = None
        self._context = None
        self._engine = None
        self._runtime = None
        self._logger = None
        self._forget()
        if memory is not None:
            memory.close()

    def upload(self, arrays: Arrays) -> Mapping[str, Block]:
        """To the GPU, in the engine's own type of input.

        Raises:
            UsageError: the engine's profile doesn't cover the shape.
        """
        assert self._memory is not None
        for array in arrays.values():
            self._check_shape(tuple(array.shape))
        return {name: self._memory.upload(array.astype(self._inputs[name])) for name, array in arrays.items()}

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        assert self._range is not None
        if not self._range.covers(shape):
            smallest, largest = self._range.min, self._range.max
            takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
            raise UsageError(
                f"{self.signature.input_name} has shape {shape}; this engine takes {takes}",
                hint="Build it for this shape too: --batch and --size.",
            )

    def infer(self, inputs: Mapping[str, Block]) -> Mapping[str, Block]:
        """Hand one inference to the GPU and return; the first on an input prepares for it, and waits."""
        given = inputs[self.signature.input_name]
        # No name is given to the binding before: its graph has to go when another input is bound.
        if self._binding is None or self._binding.given is not given:
            self._bind(given)
        binding = self._binding
        assert binding is not None
        if binding.replay is not None:
            binding.replay()
        else:
            self._enqueue()
        return {name: binding.outputs[name] for name in self.signature.output_names}

    def _bind(self, given: Block) -> None:
        """Tell the context where it reads and writes, and record the graph.

        Raises:
            UsageError: the engine's profile doesn't cover the shape.
            RuntimeUnavailableError: TensorRT refuses.
        """
        assert self._memory is not None
        assert self._backend is not None
        self._check_shape(given.shape)
        self._memory.synchronize()
        # A graph must not outlive a change of the context that it was recorded from.
        self._binding = None
        name = self.signature.input_name
        if not self._context.set_input_shape(name, given.shape):
            raise self._refused(f"doesn't take {name} in shape {given.shape}")
        outputs: dict[str, Block] = {}
        for output, dtype in self._outputs.items():
            shape = tuple(self._context.get_tensor_shape(output))
            if min(shape, default=0) < 0:
                raise self._refused(f"doesn't know the shape of {output}, but {shape}")
            outputs[output] = self._memory.allocate(shape, dtype)
        for tensor, block in {name: given, **outputs}.items():
            if not self._context.set_tensor_address(tensor, block.pointer):
                raise self._refused(f"doesn't take the address of {tensor}")
        replay = None if self._backend.is_rtx else self._recorded()
        self._binding = _Binding(given, outputs, replay)

    def _recorded(self) -> Replay | None:
        """The graph of one inference, after an ordinary one, in which TensorRT allocates what it still needs."""
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
        """To arrays of their own."""
        assert self._memory is not None
        return {name: self._memory.download(block) for name, block in outputs.items()}


def _builder_of(path: Path, record: EngineRecord | None) -> str:
    """The backend that built an engine: its record's word, or its first bytes'.

    Raises:
        UnreadableEngineError: the record names one that doesn't exist.
    """
    if record is not None:
        name = record.backend.name
        if name not in (RTX, CLASSIC):
            raise UnreadableEngineError(
                f"{path} was built by {name}, which isn't known here", hint="Update attn-export, or build it again."
            )
        return name
    try:
        with path.open("rb") as stream:
            return RTX if stream.read(len(RTX_MAGIC)) == RTX_MAGIC else CLASSIC
    except OSError:  # told in `open`, with everything else that can be wrong with a file
        return CLASSIC


def _precision_of(record: EngineRecord | None) -> str:
    """What was asked for, or what most kernels run in; "unknown" where nothing tells."""
    if record is None:
        return "unknown"
    audit = record.precision
    if audit.asked in [str(known) for known in Precision]:
        return Precision(audit.asked).onnx_name
    types = [*audit.kernels, *audit.graph]
    return {"FLOAT": "float32"}.get(types[0], types[0].lower()) if types else "unknown"


def _validity(backend: Backend, runtime: Any, plan: bytes) -> str:
    """Why TensorRT-RTX wouldn't load an engine; empty where it would, or can't tell, as without a driver."""
    validity, diagnostics = runtime.get_engine_validity(plan)
    if validity != backend.trt.EngineValidity.INVALID:
        return ""
    known = backend.trt.EngineInvalidityDiagnostics.__members__
    found = [DIAGNOSTICS.get(name, name) for name, bit in known.items() if int(diagnostics) & int(bit)]
    return "; ".join(found)


def _within(signature: Signature, shapes: Range) -> Signature:
    """The signature with a sample that the engine takes: its usual sizes in open axes if the traced one is outside."""
    shape = signature.input_shape
    if shapes.covers(shape) or len(shape) != len(shapes.opt):
        return signature
    usual = {axis.index: shapes.opt[axis.index] for axis in signature.axes}
    return replace(signature, input_shape=tuple(usual.get(index, size) for index, size in enumerate(shape)))
