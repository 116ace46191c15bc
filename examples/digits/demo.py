"""The main job on two networks that were really trained: export, proof, latencies, and accuracy on held-out digits."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from digits import load as load_digits
from rich.console import Console

from attn_export.cli import run
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.report.tables import table

HERE = Path(__file__).parent
OUT = Path("out/digits")


def correct(logits: np.ndarray, labels: np.ndarray) -> str:
    """A share of right answers, in words."""
    right = int((logits.argmax(1) == labels).sum())
    return f"{right} of {len(labels)}, {right / len(labels):.2%}"


def main() -> int:
    """Export both networks and compare what they say about digits that they have never seen."""
    import onnxruntime

    console = Console(soft_wrap=True, highlight=False)
    _, held_out = load_digits()
    labels = held_out.labels.numpy()
    accuracy = table("Held-out digits", "network", "PyTorch", "ONNX Runtime", "answers that differ")
    for name in ("se_digits", "cbam_digits"):
        checkpoint = HERE / f"{name}.pt"
        console.print(f"\n[bold green]$ attn-export {os.path.relpath(checkpoint)} --onnx --out {OUT}[/]\n")
        if code := run([str(checkpoint), "--onnx", "--out", str(OUT)]):
            return code
        model = load(checkpoint)
        assert model.normalization is not None
        inputs = held_out.inputs(model.normalization)
        with torch.inference_mode():
            pytorch = model.module(inputs).numpy()
        session = onnxruntime.InferenceSession(OUT / f"{name}.onnx", providers=["CPUExecutionProvider"])
        (onnx,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        different = int((pytorch.argmax(1) != onnx.argmax(1)).sum())
        accuracy.add_row(name, correct(pytorch, labels), correct(onnx, labels), str(different))
    console.print()
    console.print(accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
