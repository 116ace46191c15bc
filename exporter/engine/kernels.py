"""The kernels of an engine: what each reads and writes, and the ONNX nodes that were fused into it.

TensorRT-RTX tells them in its log while it builds, also on a machine without a GPU; the classic TensorRT tells them of
an engine that is loaded (`IEngineInspector`). Neither format is promised to stay. Where nothing is found, the report
says so, and nothing that rests on it is claimed.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from attn_export.exporter.engine.log import Log
from attn_export.exporter.records.engine import Kernel, KernelReport

HEADLINE = "Layers:"
# Entries of the list that aren't work: they compute shapes, or let parallel streams wait for each other.
NO_KERNELS = ("shape_call", "signal", "wait", "NoOp")
# What TensorRT calls the types of tensors, in one place or another, and ONNX's names of them.
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
_NEXT = re.compile(r"\n(?=Name: )|\n\n")  # names of nodes may hold line ends
_TENSOR = re.compile(r"Dimensions: \[((?:-?[0-9]{1,18}(?:,-?[0-9]{1,18})*)?)\].*?Datatype: (\w+)", re.DOTALL)
# Names may hold brackets: one ends where another begins or nothing follows. Some versions separate them by an
# invisible character.
_ONNX = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f]|\[\w[\w ]*: |\s*$)", re.DOTALL)
_TOTAL = re.compile(r"Total (Weights|Activation) Memory: ([0-9]{1,18}) bytes")


def read_log(log: Log) -> KernelReport:
    """The report in what TensorRT-RTX said during a build with detailed verbosity."""
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
    """For one image: an open first axis is the batch."""
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
    """The report in what ``IEngineInspector.get_engine_information`` gives as JSON, of TensorRT 10 and 11.

    TensorRT 10 writes type and format as one word ("Format/Datatype"), TensorRT 11 as two ("Format", "Datatype").
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    layers = _listed(document, "Layers")
    kernels = [_from_layer(layer) for layer in layers]
    return KernelReport(tuple(k for k in kernels if k.kind not in NO_KERNELS), "TensorRT's engine inspector")


def _listed(owner: Any, key: str) -> list[dict[str, Any]]:
    """The objects of a list in an object; none where it isn't of this form."""
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
        weights=(),  # the inspector tells of no constants
        bytes_written=_bytes(written),
    )


def _from_tensor(tensor: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    said = str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "")
    kind = next(
        (ours for theirs, ours in TYPES.items() if re.search(rf"\b{theirs}\b", said, re.IGNORECASE)), said.upper()
    )
    sizes = tensor.get("Dimensions")
    return tuple(size for size in sizes if type(size) is int) if isinstance(sizes, list) else (), kind
