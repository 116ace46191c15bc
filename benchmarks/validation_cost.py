"""What a verdict costs, in forward passes of PyTorch float32 over the same images.

    python benchmarks/validation_cost.py [--network se_resnet50] [--size 224] [--save]

A pass is the network in float32 over every image that is judged, once, in the batches in which it is judged. Measured
are: the whole of validating a float32 ONNX file (float64 reference, baseline, the file as it is, the file with its
gates as outputs), a second artifact of the same network, whose reference is there, and the first once more from the
cache. Passes are timed before and after, and the mean of both is the unit.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import keep, markdown, parser_of

from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import BATCHES, batches
from attn_export.exporter.network.capture import capture
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.validation.cache import Cache, cached_reference
from attn_export.exporter.validation.validate import validate
from attn_export.models.registry import create

LIMIT, LIMIT_OF_SECOND = 15.0, 7.5


def seconds(job: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    made = job()
    return time.perf_counter() - started, made


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--network", default="se_resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = from_module(create(options.network), (3, options.size, options.size))
    judged = batches(opened(model.inputs))
    settings = Settings(options.threads)

    def one_pass() -> None:
        with torch.no_grad():
            for batch in judged:
                model.module(torch.from_numpy(batch.arrays["input"]))

    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = onnx_file.write(clean_graph(capture(model))[0], Path(folder) / "model.onnx")
        one_pass()
        for repeat in range(options.repeats):
            cache = Cache(Path(folder) / f"cache{repeat}")
            before, _ = seconds(one_pass)
            reference_seconds, (reference, _) = seconds(
                lambda: cached_reference(model, judged, cache=cache)  # noqa: B023 (called at once)
            )
            first, verdict = seconds(lambda: validate(file, reference, settings))  # noqa: B023 (called at once)
            second, _ = seconds(lambda: validate(file, reference, settings))  # noqa: B023 (called at once)
            cached, (_, was_there) = seconds(lambda: cached_reference(model, judged, cache=cache))  # noqa: B023 (called at once)
            after, _ = seconds(one_pass)
            assert verdict.agrees
            assert was_there
            unit = (before + after) / 2
            rows.append(
                {
                    "pass_s": unit,
                    "whole": (reference_seconds + first) / unit,
                    "reference": reference_seconds / unit,
                    "second_artifact": second / unit,
                    "reference_from_the_cache": cached / unit,
                }
            )
    middle = {key: sorted(row[key] for row in rows)[len(rows) // 2] for key in rows[0]}
    images = sum(len(batch) for batch in judged)
    allowed = {"whole": LIMIT, "second_artifact": LIMIT_OF_SECOND}
    print(f"{options.network}, {images} images in batches of 1, 2 and {BATCHES[-1]}")
    cells = [[key.replace("_", " "), f"{value:.2f}", allowed.get(key)] for key, value in middle.items()]
    print(markdown(("passes of PyTorch float32", "median", "allowed"), cells))
    if options.save:
        about = {"network": options.network, "size": options.size, "images": images, "threads": options.threads}
        keep("validation_cost", **about, median=middle, rows=rows)
    if middle["whole"] > LIMIT or middle["second_artifact"] > LIMIT_OF_SECOND:
        raise SystemExit("costs more than is allowed")


if __name__ == "__main__":
    main()
