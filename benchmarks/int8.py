"""How good int8 files are, ours and those of ONNX Runtime's own tool, from the same calibration images.

    python benchmarks/int8.py [--images 128] [--save]

The two networks that were trained on handwritten digits (examples/digits), calibrated on images of the training part
and compared with the float32 file on the 450 held-out digits. Kernels are those of TensorRT-RTX for sm86. ONNX
Runtime's tool is asked for the form that each runtime takes: symmetric int8 with float biases for TensorRT, uint8
activations for ONNX Runtime, one scale for each channel in both.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from rich.console import Console

from attn_export.exporter.artifacts import Target
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.engine.job import build_file
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import EngineError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.network.capture import capture
from attn_export.exporter.precision.int8.placement import Choices
from attn_export.exporter.precision.int8.quality import decibels
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.report.tables import table
from attn_export.exporter.workflows.quantize import quantize_file

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
RESULTS = Path(__file__).parent / "results" / "int8.json"
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "AddQDQPairToWeight": True}
Row = dict[str, Any]


class Reader(CalibrationDataReader):  # type: ignore[misc] # the library has no types
    """Calibration images, eight at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self.waiting = iter([{"input": images[i : i + 8]} for i in range(0, len(images), 8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, by input."""
        return next(self.waiting, None)


def by_onnxruntime(source: Path, out: Path, images: np.ndarray, target: Target) -> None:
    """The file by ONNX Runtime's tool."""
    symmetric = target is Target.TENSORRT
    quantize_static(
        str(source),
        str(out),
        Reader(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options=SYMMETRIC if symmetric else {},
    )


def measured(tool: str, target: Target, source: Path, file: Path, images: np.ndarray) -> Row:
    """SQNR, agreement and size of a file."""
    exact, found = ([PlainSession(path, 1).run({"input": images})["output"]] for path in (source, file))
    nodes = onnx.load(file).graph.node
    row: Row = {
        "tool": tool,
        "form": str(target),
        "sqnr_db": decibels(exact, found),
        "agreement": float((exact[0].argmax(1) == found[0].argmax(1)).mean()),
        "quantize_nodes": sum(node.op_type == "QuantizeLinear" for node in nodes),
    }
    if target is Target.TENSORRT:
        settings = EngineSettings(gpus=("sm86",), count_ablated=False)
        try:
            row["kernels"] = build_file(file, file.with_suffix(".engine"), settings).record.cost.kernels
        except EngineError as error:
            row["failed"] = error.message
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128, help="calibration images")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    sys.path.insert(0, str(DIGITS))
    import digits

    training, held_out = digits.load()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in ("se_digits", "cbam_digits"):
            model = load(DIGITS / f"{network}.pt")
            source = onnx_file.write(clean_graph(capture(model))[0], folder / f"{network}.onnx").path
            assert model.normalization is not None
            calibration = training.inputs(model.normalization).numpy()[: options.images]
            other = held_out.inputs(model.normalization).numpy()
            np.save(folder / "calibration.npy", calibration)
            for target in (Target.TENSORRT, Target.ONNXRUNTIME):
                file = folder / f"{network}.{target}.onnx"
                quantize_file(source, file, folder / "calibration.npy", settings=QuantizeSettings(Choices(target)))
                rows.append({"network": network, **measured("attn-export", target, source, file, other)})
                by_onnxruntime(source, file, calibration, target)
                rows.append({"network": network, **measured("onnxruntime", target, source, file, other)})
    heads = ("network", "tool", "form", "SQNR", "agreement", "QuantizeLinear", "kernels")
    shown = table("int8, on 450 held-out digits", *heads)
    for row in rows:
        cells = (row["network"], row["tool"], row["form"], f"{row['sqnr_db']:.1f} dB", f"{row['agreement']:.1%}")
        shown.add_row(*cells, str(row["quantize_nodes"]), str(row.get("kernels", row.get("failed", ""))))
    Console(width=140).print(shown)
    if options.save:
        RESULTS.write_text(json.dumps({"environment": plain(describe()), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
