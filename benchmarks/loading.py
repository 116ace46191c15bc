"""What loading a checkpoint costs beyond reading the file: time, memory, and finding out which network it is.

    python benchmarks/loading.py [--networks se_resnet50,...] [--runs 5] [--save]

Each run is a process of its own that imports everything first. *reading* is one pass over the file's bytes, *loading*
what `load` takes, with its passes for the checksums and the hash; *memory* is the growth of the process's peak, without
pages of libraries, over the size of the file (Linux); *inferring* finds the architecture in names and shapes. Times are
CPU times on one thread, so other programs don't matter much.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import keep, markdown, parser_of, words_of

from attn_export.exporter.checkpoint import fit, state_dict
from attn_export.exporter.checkpoint.container import read
from attn_export.exporter.checkpoint.load import load
from attn_export.models.registry import architecture, create

MIB = 2**20
KINDS = ("state dict", "training checkpoint", "safetensors")


def write(network: str, kind: str, folder: Path) -> Path:
    """A file of this kind, with momenta beside the weights in a training checkpoint."""
    weights = create(network).state_dict()
    path = folder / ("model.safetensors" if kind == "safetensors" else "model.pt")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(weights, path)
    elif kind == "state dict":
        torch.save(weights, path)
    else:
        torch.save({"model": weights, "optimizer": {n: torch.zeros_like(t) for n, t in weights.items()}}, path)
    return path


def resident_mib(line: str) -> float:
    """``VmRSS``, what this process holds now, ``RssFile``, its part that is pages of files, or ``VmHWM``, the peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.partition(f"{line}:")[2].split()[0]) / 1024


def measured(path: Path) -> dict[str, float]:
    """Figures of one file, in a process that has loaded nothing yet but a small network."""
    warm_up()
    began = time.process_time()
    with path.open("rb") as file:
        while file.read(MIB):
            pass
    reading = time.process_time() - began
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, of_files = resident_mib("VmRSS"), resident_mib("RssFile")
    began = time.process_time()
    load(path)
    return {
        "mib": path.stat().st_size / MIB,
        "reading_s": reading,
        "loading_s": time.process_time() - began,
        "memory_mib": resident_mib("VmHWM") - before - (resident_mib("RssFile") - of_files),
    }


def inferred(path: Path) -> dict[str, float]:
    """The same for the architecture alone, of weights that are in memory."""
    warm_up()
    found = state_dict.find(read(path).content)
    assert found is not None
    began = time.process_time()
    fit.readings(found[0])
    return {"inferring_s": time.process_time() - began}


def warm_up() -> None:
    """Load a small network."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(create("se_resnet8").state_dict(), Path(folder, "warm.pt"))
        load(Path(folder, "warm.pt"))


def measured_anew(option: str, path: Path) -> dict[str, float]:
    """In a process of its own."""
    command = [sys.executable, __file__, option, str(path)]
    figures: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return figures


def row_of(network: str, kind: str, runs: int) -> dict[str, Any]:
    """Medians of several processes."""
    assert architecture(network)
    with tempfile.TemporaryDirectory() as folder:
        path = write(network, kind, Path(folder))
        results = [{**measured_anew("--measure", path), **measured_anew("--infer", path)} for _ in range(runs)]
    return {
        "network": network,
        "kind": kind,
        **{name: statistics.median(result[name] for result in results) for name in results[0]},
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    figures = (row["reading_s"], row["loading_s"], row["memory_mib"] / row["mib"], row["inferring_s"])
    return [row["network"], row["kind"], f"{row['mib']:.0f}", *(f"{figure:.2f}" for figure in figures)]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--networks", type=words_of, default=["se_resnet50", "cbam_mobilenet_v3_large"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--infer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure or options.infer:
        print(json.dumps(measured(options.measure) if options.measure else inferred(options.infer)))
        return
    rows = [row_of(network, kind, options.runs) for network in options.networks for kind in KINDS]
    heads = ("network", "file", "MiB", "reading s", "loading s", "memory / size", "inferring s")
    print(markdown(heads, map(cells, rows), 2))
    if options.save:
        keep("loading", rows=rows)


if __name__ == "__main__":
    main()
