"""How fast int8 files are in ONNX Runtime on one thread of a CPU, beside float32 and the files of its own quantizer.

    python benchmarks/int8_speed.py [--rounds 30] [--size 224] [--save]

ResNet-50 plain, with SE and with CBAM, random weights, batch 1. Ranges don't change the speed, so two images of noise
are calibrated on, and nothing is corrected or rounded. All files take turns; a run counts the processor time of its
process, and a ratio is the median of the ratios of the rounds. ``--save`` writes results/int8_speed.json and the table
of docs/int8.md.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from common import keep, markdown, parser_of, show_in_docs
from precision_peers import by_onnxruntime

from attn_export.exporter.artifacts import Target
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.capture import capture
from attn_export.exporter.precision.int8.placement import Choices
from attn_export.exporter.precision.int8.ranges import Method
from attn_export.exporter.precision.int8.rounding import Rounding
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.workflows.quantize import quantize_file
from attn_export.models.registry import create

NETWORKS = ("resnet50", "se_resnet50", "cbam_resnet50")
FLOAT32 = "float32"
HEADS = ("file", *(head for name in ("plain", "SE", "CBAM") for head in (name, "faster")), "CBAM costs")
Row = dict[str, Any]


def by_us(gates: bool | None, source: Path, calibration: Path, out: Path) -> None:
    """What `attn-export quantize --for onnxruntime` writes."""
    settings = QuantizeSettings(
        Choices(Target.ONNXRUNTIME, gates),
        method=Method.MINMAX,
        rounding=Rounding.NEAREST,
        equalize=False,
        correct_bias=False,
        threads=1,
    )
    quantize_file(source, out, calibration, settings=settings)


def by_its_tool(source: Path, calibration: Path, out: Path) -> None:
    """What `quantize_static` writes."""
    (name,) = onnxruntime.InferenceSession(source).get_inputs()
    images = [{name.name: image[None]} for image in np.load(calibration)]
    by_onnxruntime(source, images, out, "onnxruntime")


TOOLS: dict[str, tuple[Target, Callable[[Path, Path, Path], None]]] = {
    "int8": (Target.ONNXRUNTIME, lambda *paths: by_us(None, *paths)),
    "int8, --no-gates": (Target.ONNXRUNTIME, lambda *paths: by_us(False, *paths)),
    "ONNX Runtime's quantizer": (Target.ANY, by_its_tool),
    "the same, after `--for onnxruntime`": (Target.ONNXRUNTIME, by_its_tool),
}


def files(network: str, calibration: Path, size: int, folder: Path) -> dict[str, Path]:
    """The float32 file for ONNX Runtime, and int8 files, by tool."""
    torch.manual_seed(0)
    model = from_module(create(network), (3, size, size))
    sources = {}
    for target in (Target.ANY, Target.ONNXRUNTIME):
        graph, _ = clean_graph(capture(model), target)
        sources[target] = onnx_file.write(graph, folder / f"{network}.{target}.onnx").path
    made = {FLOAT32: sources[Target.ONNXRUNTIME]}
    for number, (tool, (source, quantize)) in enumerate(TOOLS.items()):
        made[tool] = folder / f"{network}.{number}.onnx"
        quantize(sources[source], calibration, made[tool])
    return made


def opened(path: Path) -> onnxruntime.InferenceSession:
    """A session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measured(made: dict[tuple[str, str], Path], image: np.ndarray, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of processor time of each file, round by round; each runs once before it is timed."""
    sessions = {key: opened(path) for key, path in made.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
    for _ in range(rounds):
        for key, session in sessions.items():
            feed = {session.get_inputs()[0].name: image}
            session.run(None, feed)
            start = time.process_time()
            session.run(None, feed)
            times[key].append((time.process_time() - start) * 1e3)
    return times


def ratio(of: list[float], to: list[float]) -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def rows(times: dict[tuple[str, str], list[float]]) -> list[Row]:
    """Median milliseconds of each tool's files, how many times as fast as float32, and what CBAM adds to the plain."""
    found = []
    for tool in (FLOAT32, *TOOLS):
        row: Row = {"file": tool, "cbam_costs": ratio(times[NETWORKS[-1], tool], times[NETWORKS[0], tool]) - 1}
        for network in NETWORKS:
            own = times[network, tool]
            row[network] = {"ms": statistics.median(own), "faster": ratio(times[network, FLOAT32], own)}
        found.append(row)
    return found


def cells(row: Row) -> list[str]:
    """A row of the table."""
    pairs = [(f"{row[network]['ms']:.1f} ms", f"{row[network]['faster']:.2f}") for network in NETWORKS]
    return [row["file"], *(cell for pair in pairs for cell in pair), f"{row['cbam_costs']:.0%}"]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = np.random.default_rng(0).standard_normal((2, 3, options.size, options.size)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        calibration = Path(name) / "calibration.npy"
        np.save(calibration, images)
        made: dict[tuple[str, str], Path] = {}
        for network in NETWORKS:
            paths = files(network, calibration, options.size, Path(name))
            made |= {(network, tool): path for tool, path in paths.items()}
        found = rows(measured(made, images[:1], options.rounds))
    shown = markdown(HEADS, map(cells, found))
    print(shown)
    if options.save:
        keep("int8_speed", rounds=options.rounds, size=options.size, rows=found)
        show_in_docs("int8.md", "speed", shown)


if __name__ == "__main__":
    main()
