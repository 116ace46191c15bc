"""How far good artifacts are from the reference outputs: the figures that the limit of the error ratio rests on.

    PYTHONPATH=. python benchmarks/calibration.py [--networks se_resnet50,...] [--size 64] [--seeds 2]
        [--precisions fp32,fp16,bf16] [--keep rows.jsonl] [--save]

Every network of the zoo with random weights of several seeds, and the two trained digits networks, as captured and in
all forms of the cleanup, in float32, float16 and bfloat16, is compared with its reference. Kept is the largest ratio of
error to baseline for every kind of image, among gates and among outputs. None may disagree. With `--keep` what was
found is kept network by network, and a run that was interrupted goes on.
"""

import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import keep, markdown, parser_of, show_in_docs, words_of

from attn_export.exporter.artifacts import LoadedModel, OnnxFile, Precision, Target
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.network.capture import capture
from attn_export.exporter.precision.typed_file import typed_file
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.validate import validate
from attn_export.models.registry import create, names
from tests.validation.narrow_types import to_bfloat16

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
# Networks for images of 32x32 reduce a larger one too little to be what they are for.
SMALL = {"resnet8": 32, "resnet20": 32}
JUDGED = (Precision.FP32, Precision.FP16, Precision.BF16)
HEADS = ("precision", "compared", "images", "files", "median", "99 %", "largest", "allowed")
Row = dict[str, Any]


def models(networks: list[str], size: int, seeds: int) -> Iterator[tuple[str, Callable[[], LoadedModel]]]:
    """The networks, and how each is made."""
    for name in networks:
        side = next((small for part, small in SMALL.items() if name.endswith(part)), size)
        for seed in range(seeds):
            yield f"{name}, seed {seed}", partial(random, name, seed, side)
    for name in ("se_digits", "cbam_digits"):
        yield f"{name}, trained", partial(load, DIGITS / f"{name}.pt")


def random(name: str, seed: int, side: int) -> LoadedModel:
    """A network of the zoo with random weights."""
    return from_module(create(name, seed=seed), (3, side, side))


def kept(path: Path | None) -> list[Row]:
    """What an earlier run found."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files(
    model: LoadedModel, reference: Reference, folder: Path, threads: int, precisions: Sequence[Precision]
) -> Iterator[tuple[str, OnnxFile]]:
    """Every form of the file, one at a time."""
    if Precision.FP32 in precisions:
        yield "as captured", onnx_file.write(capture(model), folder / "captured.onnx")
    for target in Target:
        cleaned, _ = clean_graph(capture(model), target)
        plain = onnx_file.write(cleaned, folder / f"{target.value}.onnx")
        if Precision.FP32 in precisions:
            yield str(target.value), plain
        if {Precision.FP16, Precision.BF16} & {*precisions}:
            half = typed_file(plain, Precision.FP16, reference.batches, folder / f"{target.value}.fp16.onnx", threads)
            if Precision.FP16 in precisions:
                yield str(target.value), half
            if Precision.BF16 in precisions:
                path = to_bfloat16(half.path, folder / f"{target.value}.bf16.onnx")
                yield str(target.value), replace(half, path=path, precision=Precision.BF16)


def judged(name: str, model: LoadedModel, threads: int, precisions: Sequence[Precision]) -> list[Row]:
    """What is found; of a precision in which PyTorch itself is too far off for anything to be judged, its words."""
    try:
        return list(rows_of(name, model, threads, precisions))
    except InputError as error:
        if len(precisions) == 1:
            return [{"network": name, "precision": str(precisions[0]), "refused": error.message}]
    return [row for precision in precisions for row in judged(name, model, threads, [precision])]


def rows_of(name: str, model: LoadedModel, threads: int, precisions: Sequence[Precision]) -> Iterator[Row]:
    """One for each file, role and kind of image."""
    reference = compute_reference(model, batches(opened(model.inputs)), precisions=precisions)
    with tempfile.TemporaryDirectory() as folder:
        for form, file in files(model, reference, Path(folder), threads, precisions):
            verdict = validate(file, reference, Settings(threads))
            worst: dict[tuple[str, str], float] = defaultdict(float)
            for comparison in verdict.comparisons:
                for kind, ratio in comparison.ratios.items():
                    worst[comparison.role, kind] = max(
                        worst[comparison.role, kind], math.inf if ratio is None else ratio
                    )
            for (role, kind), ratio in worst.items():
                yield {
                    "network": name,
                    "form": form,
                    "precision": str(file.precision),
                    "role": role,
                    "kind": kind,
                    "ratio": ratio,
                    "gates_missed": verdict.gates_missed,
                }


def spread(rows: Sequence[Row]) -> list[Row]:
    """For every precision, role and kind of image: median and 99th percentile over the files, and the worst of them."""
    grouped: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["precision"], row["role"], row["kind"]].append(row)
    found = []
    for (precision, role, kind), same in grouped.items():
        ratios = [row["ratio"] for row in same]
        worst = max(same, key=lambda row: row["ratio"])
        found.append(
            {
                "precision": precision,
                "role": role,
                "kind": kind,
                "files": len(ratios),
                "median": float(np.median(ratios)),
                "p99": float(np.percentile(ratios, 99)),
                "worst": worst["ratio"],
                "limit": POLICIES[Precision(precision)].limit,
                "worst_file": f"{worst['network']}, {worst['form']}",
            }
        )
    return found


def cells(row: Row) -> list[str]:
    """A row of the table in docs/validation.md."""
    figures = [f"{row[key]:.2f}" for key in ("median", "p99", "worst")]
    role = {"gate": "gates", "output": "outputs"}[row["role"]]
    return [row["precision"], role, row["kind"], str(row["files"]), *figures, f"{row['limit']:g}"]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--networks", type=words_of, default=names())
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    parser.add_argument("--seeds", type=int, default=1, help="of the random weights")
    parser.add_argument("--precisions", default=",".join(map(str, JUDGED)))
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--keep", type=Path, help="a file of what was found")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = kept(options.keep)
    known = {(row["network"], row["precision"]) for row in rows}
    asked = [Precision(word) for word in words_of(options.precisions)]
    for name, make in models(options.networks, options.size, options.seeds):
        missing = [precision for precision in asked if (name, str(precision)) not in known]
        if not missing:
            continue
        found = judged(name, make(), options.threads, missing)
        rows += found
        if options.keep is not None:
            with options.keep.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row) + "\n" for row in found)
        shares = [row["ratio"] / POLICIES[Precision(row["precision"])].limit for row in found if "ratio" in row]
        print(f"{name}: at most {max(shares, default=0.0):.0%} of what is allowed", file=sys.stderr)
    flagged = [
        row for row in rows if "ratio" in row and not row["ratio"] <= POLICIES[Precision(row["precision"])].limit
    ]
    for row in rows:
        if "refused" in row or row in flagged:
            print(f"{'not judged' if 'refused' in row else 'flagged'}: {row}", file=sys.stderr)
    spreads = spread([row for row in rows if "ratio" in row])
    order = [str(precision) for precision in Precision]
    shown = markdown(HEADS, map(cells, sorted(spreads, key=lambda r: (order.index(r["precision"]), r["role"]))), 3)
    print(shown)
    if options.save:
        keep("calibration", spread=spreads)
        show_in_docs("validation.md", "calibration", shown)
    if flagged:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
