"""Reads what an artifact declares: an ONNX file of any program, or an engine with its record."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import CHECKPOINTS, ONNX_ENDING, Precision
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.records.artifact import Artifact, Tensor
from attn_export.exporter.records.engine import EngineRecord

if TYPE_CHECKING:
    import onnx_ir as ir

ONNX, ENGINE = "onnx", "engine"
QUANTIZES, BACK = ("QuantizeLinear", "DynamicQuantizeLinear"), "DequantizeLinear"
COMPUTES_WHOLE = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm")
QUANTIZED_TYPES = frozenset({"INT8", "UINT8", "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT4E2M1"})
SOURCE_KEY = "attn_export.source_sha256"
ENGINES = (".engine", ".plan", ".trt")


def read_artifact(path: Path, *, trust: bool = False) -> Artifact:
    """Read an artifact's declarations, without its weights.

    ``trust`` accepts an engine that has changed since its record was written.

    Raises:
        InputError: the artifact is neither, can't be read, is damaged, or isn't trusted.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint="Expected is an ONNX file or an engine.")
    if path.suffix.lower() in CHECKPOINTS:
        raise InputError(
            f"{path} looks like a checkpoint, and what is compared with one is an ONNX file or an engine",
            hint="The checkpoint comes first: attn-export validate model.pt model.onnx model.engine",
        )
    return _read_onnx(path) if path.suffix.lower() == ONNX_ENDING else _read_engine(path, trust=trust)


def _read_onnx(path: Path) -> Artifact:
    from attn_export.exporter.graph.read import parse
    from attn_export.exporter.precision.half import infer_types

    parsed = parse(path)
    model = parsed.copy()
    graph = model.graph
    infer_types(model)
    quantized_type = _quantized_type(graph)
    return Artifact(
        path=path,
        format=ONNX,
        inputs=tuple(_tensor(value) for value in graph.inputs if value.const_value is None),
        outputs=tuple(_tensor(value) for value in graph.outputs),
        precision=_precision(graph),
        source_sha256=model.metadata_props.get(SOURCE_KEY, ""),
        opset=graph.opset_imports.get("", 0),
        nodes=len(graph),
        gates=gates_of(model),
        quantized=path if quantized_type else None,
        quantized_type=quantized_type,
        parsed=parsed,
    )


def _precision(graph: "ir.Graph") -> Precision:
    """The precision of most values; bfloat16 where any value has it, because few runtimes take it."""
    import onnx_ir as ir

    from attn_export.exporter.precision.half import float_type

    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    if any(value.dtype == ir.DataType.BFLOAT16 for value in values):
        return Precision.BF16
    return Precision.FP16 if float_type(graph) is ir.DataType.FLOAT16 else Precision.FP32


def _quantized_type(graph: "ir.Graph") -> str:
    """The type of most quantized tensors, biases aside; empty without any."""
    rounding = [node for node in graph if node.op_type in (*QUANTIZES, BACK, *COMPUTES_WHOLE)]
    values = [node.outputs[0] if node.op_type in QUANTIZES else node.inputs[0] for node in rounding]
    names = [value.dtype.name for value in values if value is not None and value.dtype is not None]
    counted = Counter(name for name in names if name in QUANTIZED_TYPES)
    return counted.most_common(1)[0][0].lower() if counted else "int8" if rounding else ""


def _tensor(value: "ir.Value") -> Tensor:
    import onnx_ir as ir

    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return Tensor(str(value.name), dims(value), f"a {type(value.type).__name__.removesuffix('Type').lower()}")
    return Tensor(str(value.name), dims(value), value.dtype.name.lower() if value.dtype is not None else "")


NUMPY_NAMES = {"float": "float32", "double": "float64"}


def numpy_name(dtype: str) -> str:
    """Numpy's name of an ONNX type."""
    return NUMPY_NAMES.get(dtype, dtype)


def _read_engine(path: Path, *, trust: bool) -> Artifact:
    from attn_export.exporter.engine.sidecar import check_file, sidecar_path

    if not path.exists():
        raise InputError(f"{path} does not exist", hint="Expected is an ONNX file (*.onnx) or an engine.")
    if path.suffix.lower() not in ENGINES and not sidecar_path(path).exists():
        raise InputError(
            f"{path} is neither an ONNX file (*{ONNX_ENDING}) nor an engine (*{', *'.join(ENGINES)})",
            hint="If it is one, give it such a name.",
        )
    record = check_file(path, trust=trust)
    if record is None:
        raise InputError(
            f"{path} has no record beside it ({path.name}.json), which says what it takes and returns",
            hint="Copy the record along, or build the engine with attn-export.",
        )
    graph, asked = record.precision.graph, record.precision.requested
    quantized_type = next((name.lower() for name in graph if name in QUANTIZED_TYPES), "")
    return Artifact(
        path=path,
        format=ENGINE,
        inputs=tuple(Tensor(name, dims, record.io.types.get(name, "")) for name, dims in record.io.inputs.items()),
        outputs=tuple(Tensor(name, dims, record.io.types.get(name, "")) for name, dims in record.io.outputs.items()),
        precision=engine_precision(asked, graph),
        profile=record.profile,
        quantized=_graph_of(path, record) if quantized_type else None,
        quantized_type=quantized_type,
        sidecar=record,
    )


def engine_precision(asked: str | None, graph: Collection[str]) -> Precision:
    """The precision whose baseline error an engine is compared with.

    TF32 rounds what it multiplies to float16's number of digits.

    ``asked`` is the precision of its build, if one was named.
    """
    if "BFLOAT16" in graph:
        return Precision.BF16
    half = "FLOAT16" in graph and asked != Precision.FP32
    return Precision.FP16 if half or asked == Precision.TF32 else Precision.FP32


def _graph_of(engine: Path, record: EngineRecord) -> Path:
    """The ONNX file of an engine, beside it."""
    from attn_export.exporter.system.files import sha256_of

    source = engine.parent / Path(record.onnx.path).name
    if not source.is_file() or sha256_of(source) != record.onnx.sha256:
        raise InputError(
            f"{engine} rounds to whole numbers as {source.name} says, and that file isn't beside it as it was",
            hint=f"Copy the {source.name} that it was built of beside it.",
        )
    return source
