"""Faults of a runtime with a graph that rounds to whole numbers: it runs a changed copy, and is judged by the graph."""

from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tests.faults.editing import Edited

WHOLE = QuantType.QInt8


class Images(CalibrationDataReader):  # type: ignore[misc] # the library has no types
    """Batches to calibrate on."""

    def __init__(self, batches: list[np.ndarray]) -> None:
        self.waiting = iter([{"input": images} for images in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.waiting, None)


def quantized(source: Path, path: Path, batches: list[np.ndarray], *, per_channel: bool) -> Path:
    """The file with QuantizeLinear and DequantizeLinear around its layers, by ONNX Runtime's own tool."""
    quantize_static(
        str(source),
        str(path),
        Images(batches),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=WHOLE,
        weight_type=WHOLE,
    )
    return path


def layer(edited: Edited, weight: str) -> onnx.NodeProto:
    """What makes this layer's weight out of whole numbers."""
    return next(n for n in edited.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == f"{weight}_quantized")


def scale_off_by_two_percent(edited: Edited, weight: str) -> None:
    """The scale of one layer's weights."""
    name = layer(edited, weight).input[1]
    edited.replace_tensor(name, (edited.tensor(name) * np.float32(1.02)).astype(np.float32))


def map_scale_off_by_two_percent(edited: Edited, weight: str) -> None:
    """The scale of what goes into one layer, where it is read and not where it is written."""
    convolution = next(n for n in edited.graph.node if layer(edited, weight).output[0] in n.input)
    reader = next(n for n in edited.graph.node if convolution.input[0] in n.output)
    scaled = edited.add_tensor("fault_scale", (edited.tensor(reader.input[1]) * np.float32(1.02)).astype(np.float32))
    reader.input[1] = scaled


def zero_point_off_by_one(edited: Edited, weight: str) -> None:
    """Of what goes into one layer, where it is read."""
    convolution = next(n for n in edited.graph.node if layer(edited, weight).output[0] in n.input)
    reader = next(n for n in edited.graph.node if convolution.input[0] in n.output)
    reader.input[2] = edited.add_tensor("fault_zero_point", (edited.tensor(reader.input[2]) + 1).astype(np.int8))


def weights_one_step_off(edited: Edited, weight: str) -> None:
    """One channel's whole numbers are each one larger."""
    values = edited.tensor(f"{weight}_quantized")
    values[0] = np.minimum(values[0].astype(np.int16) + 1, 127).astype(np.int8)
    edited.replace_tensor(f"{weight}_quantized", values)


def saturates_early(edited: Edited, weight: str) -> None:
    """What goes into one layer is cut off at half of the range."""
    convolution = next(n for n in edited.graph.node if layer(edited, weight).output[0] in n.input)
    reader = next(n for n in edited.graph.node if convolution.input[0] in n.output)
    scale, zero = float(edited.tensor(reader.input[1])), int(edited.tensor(reader.input[2]))
    limits = [
        edited.add_tensor(f"fault_{name}", np.array((edge - zero) * scale, np.float32))
        for name, edge in (("low", -128), ("high", 0))
    ]
    edited.insert_after(reader, "Clip", *limits)


FAULTS = {
    "int8: a weight's scale off by 2 %": scale_off_by_two_percent,
    "int8: a map's scale off by 2 %": map_scale_off_by_two_percent,
    "int8: a zero point off by one": zero_point_off_by_one,
    "int8: one channel's weights a step off": weights_one_step_off,
    "int8: a map cut off at half of its range": saturates_early,
}
