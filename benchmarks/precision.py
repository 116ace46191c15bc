"""How good int8 files are, ours and those of other quantizers, from the same float32 file and calibration images.

    python benchmarks/precision.py [--only se_digits,...] [--tools ours,...] [--peer nncf=PYTHON ...] [--save]

- ``se_digits`` and ``cbam_digits``: the networks of examples/digits, on the 450 held-out digits.
- ``se_mobilenet`` and ``cbam_resnet20``: deeper ones, one with hard-swish, trained here on the same digits (minutes).
- ``ppocr_cls``: PP-OCR's classifier of text lines, upright or turned, from the wheel rapidocr-onnxruntime; 500 rendered
  lines of words.

Kernels are those of TensorRT-RTX for sm86. A peer that isn't installed is named in the table; ``--peer`` gives the
interpreter of an environment that has it. ``--save`` writes results/precision.json and the table of docs/int8.md.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import torch
from common import RESULTS, keep, markdown, parser_of, show_in_docs, words_of
from precision_peers import TOOLS

from attn_export.exporter.artifacts import Target
from attn_export.exporter.checkpoint.format import save
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import EngineError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.network.capture import capture
from attn_export.exporter.precision.int8.placement import Choices
from attn_export.exporter.precision.int8.quality import decibels
from attn_export.exporter.precision.int8.rounding import Rounding
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.workflows.build import build_all
from attn_export.exporter.workflows.clean import clean_file
from attn_export.exporter.workflows.quantize import quantize_file
from attn_export.models.registry import architecture

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
RESULT = RESULTS / "precision.json"
TRAINED = {"se_mobilenet": "se_mobilenet_v3_small", "cbam_resnet20": "cbam_resnet20"}
EPOCHS, CALIBRATION, LINES = 15, 128, 500
FORMS = (Target.TENSORRT, Target.ONNXRUNTIME)
# modelopt writes TensorRT's form alone; AIMET and onnxsim have zero points, which TensorRT refuses.
ONE_FORM = {"modelopt": FORMS[0], "aimet": FORMS[1], "aimet-adaround": FORMS[1], "onnxsim": FORMS[1]}
OURS = {"ours": Rounding.DESCENT, "ours-adaround": Rounding.ADAROUND}
WORDS = (
    "invoice total amount price street number date order service please return office north market paper water open "
    "close ticket train station garden summer winter phone address customer account payment delivery product quality"
).split()
Row = dict[str, Any]


def digits_file(name: str, folder: Path) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray]:
    """A float32 file, calibration images, held-out images and their labels."""
    sys.path.insert(0, str(DIGITS))
    import digits
    import train

    training, held_out = digits.load()
    normalization, path = digits.normalization_of(training), DIGITS / f"{name}.pt"
    if name in TRAINED:
        arch = architecture(TRAINED[name], num_classes=10, in_channels=1)
        network = train.train(arch, training, held_out, EPOCHS)
        shape = (1, digits.SIZE, digits.SIZE)
        path = save(folder / f"{name}.pt", network, arch, input_shape=shape, normalization=normalization)
    model = load(path)
    source = onnx_file.write(clean_graph(capture(model))[0], folder / f"{name}.onnx").path
    images = [part.inputs(normalization).numpy() for part in (training, held_out)]
    return source, images[0][:CALIBRATION], images[1], held_out.labels.numpy()


def lines_file(name: str, folder: Path) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray]:
    """The same for PP-OCR's classifier, in opset 17."""
    spec = find_spec("rapidocr_onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    model = onnx.load(next((Path(spec.origin).parent / "models").glob("*cls*.onnx")))
    for axis, size in ((2, 48), (3, 192)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save(onnx.version_converter.convert_version(model, 17), folder / "raw.onnx")
    clean_file(folder / "raw.onnx", folder / f"{name}.onnx")
    calibration, _ = lines(CALIBRATION, 1)
    return folder / f"{name}.onnx", calibration, *lines(LINES, 2)


def lines(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rendered lines of words with noise, (N, 3, 48, 192), and whether each is turned by 180 degrees."""
    import matplotlib as mpl
    from PIL import Image, ImageDraw, ImageFont

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    fonts = sorted(path for path in folder.glob("DejaVu*.ttf") if "Display" not in path.name)
    draw, images, turned = random.Random(seed), np.zeros((count, 3, 48, 192), np.float32), np.zeros(count, np.int64)
    for i in range(count):
        text = " ".join(draw.choices(WORDS, k=draw.randint(2, 3)))
        text = (text.title() if draw.random() < 0.3 else text) + draw.choice(["", "", f" {draw.randint(1, 9999)}"])
        font = ImageFont.truetype(str(draw.choice(fonts)), draw.randint(22, 36))
        line = Image.new("L", (max(40, int(font.getlength(text)) + 20), 48), draw.randint(150, 255))
        ImageDraw.Draw(line).text((draw.randint(2, 12), draw.randint(0, 8)), text, font=font, fill=draw.randint(0, 90))
        pixels = np.asarray(line.resize((min(192, line.width), 48)), np.float32)
        noise = np.random.default_rng(draw.randint(0, 2**31)).normal(0, draw.uniform(0, 20), (3, *pixels.shape))
        pixels = np.clip(pixels + noise, 0, 255)
        turned[i] = draw.randint(0, 1)
        images[i, :, :, : pixels.shape[2]] = (pixels[:, ::-1, ::-1] if turned[i] else pixels) / 127.5 - 1
    return images, turned


NETWORKS: dict[str, Callable[[str, Path], tuple[Path, np.ndarray, np.ndarray, np.ndarray]]] = {
    **dict.fromkeys(("se_digits", "cbam_digits", *TRAINED), digits_file),
    "ppocr_cls": lines_file,
}


def made_by(tool: str, form: Target, source: Path, out: Path, pythons: dict[str, str]) -> Row:
    """Version and seconds of a tool, or why there is no file."""
    calibration, start = source.with_suffix(".npy"), time.perf_counter()
    if tool in OURS:
        quantize_file(source, out, calibration, settings=QuantizeSettings(Choices(form), rounding=OURS[tool]))
        return {"version": version("attn-export"), "seconds": round(time.perf_counter() - start, 1)}
    python = pythons.get(tool.partition("-")[0], sys.executable)
    words = [python, Path(__file__).with_name("precision_peers.py"), tool, str(form), source, calibration, out]
    done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True)
    if done.returncode or not out.exists():
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][:120]}
    result: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measured(form: Target, source: Path, file: Path, images: np.ndarray, labels: np.ndarray) -> Row:
    """SQNR, agreement, top-1 and size of a file, and whether TensorRT takes it."""
    exact, found = outputs(source, images), outputs(file, images)
    row: Row = {
        "sqnr_db": decibels([exact], [found]),
        "agreement": float((exact.argmax(1) == found.argmax(1)).mean()),
        "top1": float((found.argmax(1) == labels).mean()),
        "quantize_nodes": sum(node.op_type == "QuantizeLinear" for node in onnx.load(file).graph.node),
    }
    if form is Target.TENSORRT:
        settings = EngineSettings(gpus=("sm86",), count_ablated=False, allow_mixed=True)
        try:
            (engine,) = build_all(file, file.with_suffix(".engine"), settings=settings).engines
            row["kernels"] = engine.record.cost.kernels
        except EngineError as error:
            row["engine"] = error.message
    return row


def outputs(path: Path, images: np.ndarray) -> np.ndarray:
    """The scores of all images."""
    session = PlainSession(path, 1)
    (name,) = session.inputs
    runs = [session.run({name: images[i : i + 50]})[session.outputs[0]] for i in range(0, len(images), 50)]
    return np.concatenate(runs)


def cells(row: Row) -> list[str]:
    """A row of the table."""
    tool = f"{row['tool']} {row.get('version', '')}".strip()
    if "failed" in row:
        return [row["network"], row["form"], tool, row["failed"], "", "", "", ""]
    sqnr, engine = f"{row['sqnr_db']:.1f} dB", "refused" if "engine" in row else str(row.get("kernels", ""))
    shares = [f"{row['agreement']:.1%}", f"{row['top1']:.1%}"]
    return [row["network"], row["form"], tool, sqnr, *shares, str(row["quantize_nodes"]), engine]


def put(row: Row) -> None:
    """Put a row into the results and the page's table, in place of an earlier one of its network, form and tool."""
    kept = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows = {key(each): each for each in [*kept, row]}
    order = sorted(rows.values(), key=lambda each: [*map(list.index, PLACES, key(each))])
    keep("precision", rows=order)
    show_in_docs("int8.md", "precision", markdown(HEADS, map(cells, order), 3))


def key(row: Row) -> tuple[str, str, str]:
    """Whose row it is."""
    return row["network"], row["form"], row["tool"]


PLACES = [[*NETWORKS], [*map(str, FORMS)], [*OURS, *TOOLS]]
HEADS = ("network", "form", "tool", "SQNR", "agreement", "top-1", "QuantizeLinear", "kernels")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", type=words_of, default=list(NETWORKS))
    parser.add_argument("--tools", type=words_of, default=[*OURS, *TOOLS])
    parser.add_argument("--peer", action="append", default=[], metavar="TOOL=PYTHON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for network in options.only:
            source, calibration, images, labels = NETWORKS[network](network, Path(name))
            np.save(source.with_suffix(".npy"), calibration)
            right = float((outputs(source, images).argmax(1) == labels).mean())
            for form in FORMS:
                for tool in [tool for tool in options.tools if ONE_FORM.get(tool, form) is form]:
                    out = source.with_name(f"{network}.{form}.{tool}.onnx")
                    row: Row = {"network": network, "form": str(form), "tool": tool, "float_top1": right}
                    row |= made_by(tool, form, source, out, dict(peer.split("=", 1) for peer in options.peer))
                    rows.append(row if "failed" in row else row | measured(form, source, out, images, labels))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                    if options.save:
                        put(rows[-1])
    print(markdown(HEADS, map(cells, rows), 3))


if __name__ == "__main__":
    main()
