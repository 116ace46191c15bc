"""The kernels of an engine: their inputs and outputs, and the ONNX nodes fused into them.

TensorRT-RTX logs them during the build, even without a GPU; classic TensorRT lists those of a loaded engine
(`IEngineInspector`). Both formats may change; the report is then empty, and so is what derives from it.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from attn_export.exporter.engine.log import Log
from attn_export.exporter.records.engine import Kernel, KernelReport

HEADLINE = "Layers:"
# Entries that aren't kernels: they compute shapes or synchronize streams.
NO_KERNELS = ("shape_call", "signal", "wait", "NoOp")
# TensorRT's names of types (all spellings) to ONNX's.
TYPES = {
    "Float": "FLOAT",
    "FP32": "FLOAT",
    "Half": "FLOAT16",
    "FP16": "FLOAT16",
    "BFloat16": "BFLOAT16",
    "BF16": "BFLOAT16",
    "Int8": "INT8",
    "FP8": "FLOAT8E4M3FN",
    "Int4": "INT4",
    "FP4": "FLOAT4E2M1",
    "Int32": "INT32",
    "Int64": "INT64",
    "UInt8": "UINT8",
    "Bool": "BOOL",
}
BYTES = {"FLOAT16": 2, "BFLOAT16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1, "FLOAT8E4M3FN": 1, "INT64": 8}  # others: 4
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs> \{.*?\})?\], "
    r"(?:Constants: (?P<constants>.*?), )?Outputs: ",
    re.DOTALL,
)
_TAIL = re.compile(r"\], TacticName: [^,]*(?:, \w+: [^,]*)*?, Metadata: ")
_NEXT = re.compile(r"\n(?=Name: )|\n\n")  # node names may contain line breaks
_TENSOR = re.compile(r"Dimensions: \[((?:-?[0-9]{1,18}(?:,-?[0-9]{1,18})*)?)\].*?Datatype: (\w+)", re.DOTALL)
# Names may contain brackets: a name ends where the next begins or nothing follows. Some versions separate names by a
# control character.
_ONNX = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f]|\[\w[\w ]*: |\s*$)", re.DOTALL)
_TOTAL = re.compile(r"Total (Weights|Activation) Memory: ([0-9]{1,18}) bytes")


def read_log(log: Log) -> KernelReport:
    """The report from TensorRT-RTX's log of a build with detailed verbosity."""
    kernels: list[Kernel] = []
    totals: dict[str, int] = {}
    for _, message in log.messages:
        if message.startswith(HEADLINE):
            kernels = [k for line in _NEXT.split(message) if (k := _from_line(line)) is not None]
        totals |= {which: int(count) for which, count in _TOTAL.findall(message)}
    return KernelReport(tuple(kernels), "TensorRT-RTX's build log", totals.get("Weights"), totals.get("Activation"))


def _from_line(line: str) -> Kernel | None:
    head = _LINE.match(line)
    if head is None or head["kind"] in NO_KERNELS:
        return None
    rest = line[head.end() :]
    tail = _TAIL.search(rest)
    outputs, metadata = (rest[: tail.start()], rest[tail.end() :]) if tail is not None else (rest, "")
    written = [(_sizes(sizes), TYPES.get(kind, kind.upper())) for sizes, kind in _TENSOR.findall(outputs)]
    reads = [TYPES.get(kind, kind.upper()) for _, kind in _TENSOR.findall(head["inputs"] or "")]
    constants = _TENSOR.findall(head["constants"] or "")
    return Kernel(
        name=head["name"],
        kind=head["kind"],
        nodes=tuple(dict.fromkeys(_ONNX.findall(metadata))),
        reads=tuple(dict.fromkeys(reads)),
        writes=tuple(dict.fromkeys(kind for _, kind in written)),
        weights=tuple(dict.fromkeys(TYPES.get(k, k.upper()) for sizes, k in constants if math.prod(_sizes(sizes)) > 1)),
        bytes_written=_bytes(written),
    )


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",") if size)


def _bytes(written: Iterable[tuple[tuple[int, ...], str]]) -> int | None:
    """For one image: a dynamic first axis is the batch. None if another axis is dynamic."""
    total = 0
    for sizes, kind in written:
        product = BYTES.get(kind, 4)
        for axis, size in enumerate(sizes):
            if size < 0 and axis:
                return None
            product *= size if size >= 0 else 1
        total += product
    return total


def read_inspector(text: str) -> KernelReport:
    """The report from the JSON of ``IEngineInspector.get_engine_information``, TensorRT 10 and 11.

    TensorRT 10 writes type and format as one word ("Format/Datatype"), TensorRT 11 as two ("Format", "Datatype").
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    kernels = [_from_layer(layer) for layer in _listed(document, "Layers")]
    return KernelReport(tuple(k for k in kernels if k.kind not in NO_KERNELS), "TensorRT's engine inspector")


def _listed(owner: Any, key: str) -> list[dict[str, Any]]:
    """The objects of a list in an object; empty for any other JSON."""
    found = owner.get(key) if isinstance(owner, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _from_layer(layer: dict[str, Any]) -> Kernel:
    read = [_from_tensor(tensor) for tensor in _listed(layer, "Inputs")]
    written = [_from_tensor(tensor) for tensor in _listed(layer, "Outputs")]
    return Kernel(
        name=str(layer.get("Name", "")),
        kind=str(layer.get("LayerType", "")),
        nodes=tuple(dict.fromkeys(_ONNX.findall(str(layer.get("Metadata", ""))))),
        reads=tuple(dict.fromkeys(kind for _, kind in read)),
        writes=tuple(dict.fromkeys(kind for _, kind in written)),
        weights=(),  # the inspector lists no constants
        bytes_written=_bytes(written),
    )


def _from_tensor(tensor: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    text = str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "")
    kind = next((onnx for trt, onnx in TYPES.items() if re.search(rf"\b{trt}\b", text, re.IGNORECASE)), text.upper())
    sizes = tensor.get("Dimensions")
    return tuple(size for size in sizes if type(size) is int) if isinstance(sizes, list) else (), kind
