"""Into how many kernels TensorRT-RTX compiles every network of the zoo: as exported, cleaned, and shaped for TensorRT.

    python benchmarks/kernels.py [--networks se_resnet50,...] [--gpu sm86] [--save]

Needs no GPU. Networks have random weights and an open batch; what is counted is what the product itself reports of an
engine that it builds (`exporter/engine/kernels.py`), on one stream. "without" is the same graph with every attention
block taken out. float16 files keep their large reductions in float32, so they are counted for themselves.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import keep, markdown, parser_of, show_in_docs, words_of

from attn_export.models.registry import names

COLUMNS = {
    "raw": "as exported",
    "any": "cleaned",
    "tensorrt": "`--for tensorrt`",
    "without": "without attention",
    "fp16": "float16",
}


def as_users_export(module: Any, shape: tuple[int, ...], path: Path) -> None:
    """What ``torch.onnx.export`` gives, its own optimizations included."""
    import torch

    from attn_export.exporter.system.quiet import quiet

    images = torch.zeros(2, *shape)
    axes = ({0: torch.export.Dim("batch")},)
    with quiet():
        torch.onnx.export(
            module.eval(), (images,), path, input_names=["input"], dynamic_shapes=axes, dynamo=True, external_data=False
        )


def counted(network: str, gpu: str) -> dict[str, Any]:
    """The kernels of one network in every form."""
    import numpy as np

    from attn_export.exporter.artifacts import Precision, Target
    from attn_export.exporter.checkpoint.live import from_module
    from attn_export.exporter.cleanup.pipeline import clean_graph
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.graph import write as onnx_file
    from attn_export.exporter.graph.read import parse
    from attn_export.exporter.network.capture import capture
    from attn_export.exporter.precision.typed_file import typed
    from attn_export.exporter.records.document import plain
    from attn_export.exporter.workflows.build import build_all
    from attn_export.models.registry import architecture, create

    shape = architecture(network).input_shape
    row: dict[str, Any] = {"network": network}

    def kernels(path: Path, *, compare: bool = False) -> dict[str, Any]:
        settings = EngineSettings(gpus=(gpu,), count_ablated=compare)
        record = build_all(path, path.with_suffix(".engine"), settings=settings).engines[0].record
        return {"cost": plain(record.cost), "build": plain(record.build), "bytes": record.bytes}

    with tempfile.TemporaryDirectory() as name:
        raw = Path(name, "raw.onnx")
        as_users_export(create(network), shape, raw)
        row["raw"] = kernels(raw)["cost"]["kernels"]
        for form in ("any", "tensorrt"):
            graph = capture(from_module(create(network), shape), dynamic=("batch",), batch=1, opset=20)
            graph, _ = clean_graph(graph, Target(form))
            path = Path(name, f"{form}.onnx")
            onnx_file.save(graph.model, path)
            made = kernels(path, compare=form == "tensorrt")
            row[form] = made["cost"]["kernels"]
        row |= {
            "without": made["cost"]["kernels_without_attention"],
            "seconds": made["build"]["seconds"],
            "peak_bytes": made["build"]["peak_bytes"],
            "engine_bytes": made["bytes"],
        }
        images = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
        half = Path(name, "fp16.onnx")
        typed(parse(path), Precision.FP16, [{"input": images}], half, threads=2)
        row["fp16"] = kernels(half)["cost"]["kernels"]
    return row


def cells(row: dict[str, Any]) -> list[object]:
    """A row of the table in docs/tensorrt.md."""
    return [row["network"], *("" if row[key] is None else row[key] for key in COLUMNS)]


def main() -> int:
    """Count, print, save."""
    parser = parser_of(__doc__)
    parser.add_argument("--networks", type=words_of, default=names())
    parser.add_argument("--gpu", default="sm86")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(counted(options.networks[0], options.gpu)))
        return 0
    rows = []
    for network in options.networks:
        # A process for each: what one network leaves in memory would be counted as the next one's.
        command = [sys.executable, __file__, "--worker", "--networks", network, "--gpu", options.gpu]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    shown = markdown(("network", *COLUMNS.values()), map(cells, rows))
    print(shown)
    worse = [row["network"] for row in rows if row["tensorrt"] > row["raw"]]
    if worse:
        print(f"more kernels than as exported: {', '.join(worse)}")
    if options.save:
        keep("kernels", gpu=options.gpu, rows=rows)
        show_in_docs("tensorrt.md", "kernels", shown)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
