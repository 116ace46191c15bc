"""What the artifacts do on this machine's GPU: whether they are right, how fast they are, how many kernels they run.

    python benchmarks/gpu.py [--out result.json] [--models se_resnet50,cbam_resnet50] [--precision fp32,fp16]
                             [--batches 1,8] [--seconds 480] [--quick]

Runs from a checkout that isn't installed; what it needs is torch, onnx, onnx-ir, onnxscript and onnxruntime. Prints one
JSON document. A part that isn't there or fails stands in it as ``{"missing": "why"}``; nothing is left out silently.

- ``machine``: GPU, driver, versions.
- ``models``: random weights; exported and cleaned as the command does it. For every precision the engines of each
  TensorRT that is there, and for every batch each runtime: ``error`` (relative, to float64 on the CPU), ``ratio`` (that
  over the error of PyTorch's float32 on the CPU), ``kernels`` (that the GPU ran for one inference, copies left out, by
  torch's profiler), and ``timings``, taken in turns. PyTorch runs in float32 whatever the precision. TF32 is off
  everywhere: float32 means float32.

Each part runs in a process of its own, so that a crash ends that part alone; the document is written after each step.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":  # ``attn_export`` is this checkout, whatever else is installed; nothing is written
    package = types.ModuleType("attn_export")
    package.__path__ = [str(ROOT)]
    sys.modules["attn_export"] = package

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.engine.backend import load
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.capture import capture
from attn_export.exporter.precision.typed_file import typed_file
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes import RUNTIMES
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.tensorrt import TensorRT
from attn_export.exporter.system import gpus
from attn_export.exporter.workflows.build import build_all
from attn_export.models.registry import architecture, create

DEFAULT_MODELS = "se_resnet50,cbam_resnet50,se_mobilenet_v3_large,resnet50"
BACKENDS = ("tensorrt", "tensorrt-rtx")
CPU_THREADS = min(16, os.cpu_count() or 1)
SECONDS_TO_STOP = 15
Json = dict[str, Any]


class Report:
    """A part's results, on disk after every step.

    Args:
        path: of the JSON file.
        seconds: for the whole part.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.ends = time.monotonic() + seconds
        self.result: Json = {}

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def step(self, into: Json, key: str, work: Callable[..., Any], *args: Any) -> Any:
        """Do something, and write down its result or why there is none; for a result that isn't JSON, the seconds.

        Returns:
            The result; None where there is none.
        """
        print(f"{key} ({self.left:.0f} s left)", file=sys.stderr, flush=True)
        started = time.perf_counter()
        done = None
        into[key] = {"missing": "its part ended before it"}
        self.save()
        try:
            done = work(*args)
            is_plain = isinstance(done, dict | list | str | int | float | bool)
            into[key] = done if is_plain else {"seconds": round(time.perf_counter() - started, 2)}
        except Exception as error:  # noqa: BLE001 (whatever fails here is a result)
            into[key] = {"missing": words(error)}
        self.save()
        return done

    def save(self) -> None:
        """Write what there is."""
        write(self.path, self.result)


def write(path: Path, document: Json) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    temporary.replace(path)


def words(error: BaseException) -> str:
    """An error in one line, with its cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hint = getattr(error, "hint", "")
    cause = f" [from {words(error.__cause__)}]" if error.__cause__ else ""
    return f"{type(error).__name__}: {' | '.join(lines[:4])[:600]}" + (f" ({hint})" if hint else "") + cause


def backend_facts(name: str) -> Json:
    backend = load(name)
    return {"version": backend.version, "named_gpus": backend.named_gpus}


def run_machine(report: Report, _: argparse.Namespace) -> None:
    """What this machine is."""
    result = report.result
    result |= {"checkout": str(ROOT), "python": sys.version, "environment": plain(describe())}
    report.step(result, "gpus", lambda: plain(gpus.found()) or {"missing": "the driver shows no GPU"})
    for name in BACKENDS:
        report.step(result, name, backend_facts, name)


class Subject:
    """A network, its ONNX file, and what it computes."""

    def __init__(self, name: str, batches: Sequence[int], folder: Path) -> None:
        self.name, self.folder = name, folder
        arch = architecture(name)
        self.model = from_module(create(name).eval(), arch.input_shape, arch)
        draw = np.random.default_rng(0)
        self.images = draw.standard_normal((max(batches), *arch.input_shape), dtype=np.float32)
        self.file: Any = None

    def export(self) -> Json:
        """Capture, clean and write, as the command does."""
        graph, _ = clean_graph(capture(self.model))
        self.file = onnx_file.write(graph, self.folder / f"{self.name}.onnx")
        return {"nodes": self.file.nodes, "blocks": len(self.file.blocks)}

    def compute(self) -> Json:
        """The reference, and how far float32 is from it."""
        torch.set_num_threads(CPU_THREADS)
        with torch.no_grad():
            images = torch.from_numpy(self.images)
            double = copy.deepcopy(self.model.module).double()
            self.reference = double(images.double()).numpy()
            self.single = self.model.module(images).numpy()
        return {"float32_error": self.error(self.single), "images": len(self.images)}

    def error(self, outputs: Any) -> float:
        """Relative, in the Euclidean norm, of the first images."""
        reference = self.reference[: len(outputs)]
        return float(np.linalg.norm(outputs.astype(np.float64) - reference) / np.linalg.norm(reference))

    def typed(self, precision: str) -> Any:
        """The file in a precision; its parent for float32."""
        if precision == "fp32":
            return self.file
        seen = [Batch({"input": self.images[:2]}, ("noise", "noise"))]
        path = self.folder / f"{self.name}.{precision}.onnx"
        return typed_file(self.file, Precision(precision), seen, path, CPU_THREADS)


def build_engine(file: Any, backend: str, batches: Sequence[int], path: Path) -> Json:
    """For this GPU; by TensorRT-RTX for no GPU in particular where it hasn't this one by name."""
    sizes = Sizes(batch=(min(batches), min(batches), max(batches)))
    settings = EngineSettings(("current",), backend, sizes, allow_mixed=True, count_ablated=False)
    note = ""
    try:
        made = build_all(file.path, path, settings=settings).engines[0]
    except (UsageError, RuntimeUnavailableError) as error:
        if backend != "tensorrt-rtx" or "is not installed" in error.message:
            raise
        note = words(error)
        made = build_all(file.path, path, settings=replace(settings, gpus=())).engines[0]
    record = plain(made.record)
    return {
        "gpus": record["gpus"],
        "note": note,
        "bytes": record["bytes"],
        "build": record["build"],
        "kernels": record["cost"]["kernels"],
        "kernel_types": record["precision"]["kernels"],
        "mixed": len(record["precision"]["mixed"]),
    }


def count_kernels(runtime: Any, images: Any) -> Json:
    """That the GPU ran for one inference."""
    if not torch.cuda.is_available():
        return {"missing": "torch's profiler sees no GPU"}
    inputs = runtime.upload(runtime.signature.feeds({"input": images}))
    runtime.infer(inputs)
    runtime.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        runtime.infer(inputs)
        runtime.synchronize()
    ran = [event for event in profile.events() or () if str(event.device_type).endswith("CUDA")]
    copies = [event for event in ran if event.name.lower().startswith(("memcpy", "memset"))]
    return {"kernels": len(ran) - len(copies), "copies": len(copies)}


def check(subject: Subject, runtime: Any, batch: int) -> Json:
    """How far the outputs are from the reference."""
    name = runtime.signature.input_names[0]
    outputs = runtime.run({name: subject.images[:batch]})[runtime.signature.output_names[0]]
    error, baseline = subject.error(outputs), subject.error(subject.single[:batch])
    return {"error": error, "baseline": baseline, "ratio": error / baseline}


def makers(subject: Subject, file: Any, engines: dict[str, Path]) -> dict[str, Callable[[Any], Any]]:
    """Every runtime, by name, made from a file's signature."""

    def on_gpu(name: str) -> Callable[[Any], Any]:
        return lambda signature: RUNTIMES[name](
            subject.model, replace(file, signature=signature), Settings(threads=CPU_THREADS, device="cuda")
        )

    def engine(path: Path) -> Callable[[Any], Any]:
        return lambda signature: TensorRT(path, signature, Settings(threads=CPU_THREADS, device="cuda"))

    found = {name: on_gpu(name) for name in ("eager", "compile", "onnxruntime-cuda")}
    return found | {name: engine(path) for name, path in engines.items()}


def run_batch(
    report: Report, into: Json, subject: Subject, file: Any, engines: dict[str, Path], batch: int, seconds: float
) -> None:
    """Open every runtime, check it, count its kernels, and time all that work."""
    images = subject.images[:batch]
    signature = file.signature.with_shapes((images.shape,))
    with ExitStack() as stack:
        opened: list[Any] = []
        for name, make in makers(subject, file, engines).items():
            entry: Json = {}
            into[name] = entry
            runtime = report.step(entry, "open", lambda make: stack.enter_context(make(signature)), make)
            if runtime is None:
                continue
            entry["provenance"] = runtime.provenance
            report.step(entry, "check", check, subject, runtime, batch)
            opened.append(runtime)
        for name in BACKENDS:
            if name not in engines:
                into[name] = {"missing": "there is no engine, see engines"}
        if not opened:
            into["timings"] = {"missing": "no runtime works here"}
            report.save()
            return
        schedule = Schedule(seconds=seconds, fewest_rounds=3, most_rounds=2000, inferences=10)

        def timed(runtimes: Sequence[Any]) -> list[Json]:
            return plain(measure(runtimes, {"input": images}, schedule).timings)

        if report.step(into, "timings", timed, opened) is None:
            for runtime in opened:  # so that one that fails doesn't take the others' times along
                report.step(into[runtime.name], "timed alone", timed, [runtime])
        # Last, because a profiler stays attached to the GPU once it was used.
        for runtime in opened:
            report.step(into[runtime.name], "profile", count_kernels, runtime, images)


def run_model(report: Report, options: argparse.Namespace) -> None:
    """One network."""
    result = report.result
    folder = report.path.parent
    subject = report.step(result, "network", Subject, options.part, options.batches, folder)
    if subject is None or report.step(result, "export", subject.export) is None:
        return
    if report.step(result, "reference", subject.compute) is None:
        return
    result["precisions"] = {}
    for precision in options.precision:
        of: Json = {}
        result["precisions"][precision] = of
        file = report.step(of, "file", subject.typed, precision)
        if file is None:
            continue
        of |= {"engines": {}, "batches": {}}
        engines: dict[str, Path] = {}
        for backend in BACKENDS:
            path = folder / f"{subject.name}.{precision}.{backend}.engine"
            if report.step(of["engines"], backend, build_engine, file, backend, options.batches, path) is not None:
                engines[backend] = path
        for batch in options.batches:
            into: Json = {}
            of["batches"][str(batch)] = into
            seconds = 0.5 if options.quick else max(2.0, min(8.0, report.left / 12))
            try:
                run_batch(report, into, subject, file, engines, batch, seconds)
            except Exception as error:  # noqa: BLE001 (what fails while it is closed is a result too)
                into["missing"] = words(error)


def run_part(options: argparse.Namespace) -> None:
    """In a process of its own: results to ``--out``."""
    report = Report(Path(options.out), options.seconds)
    (run_machine if options.part == "machine" else run_model)(report, options)
    report.result["finished"] = True
    report.save()


def run_elsewhere(part: str, seconds: float, options: argparse.Namespace, folder: Path) -> Json:
    """A part's results, however its process ends."""
    own = folder / part
    own.mkdir()
    out, log = own / "part.json", own / "log.txt"
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--out", str(out)]
    command += ["--seconds", str(seconds), "--batches", ",".join(map(str, options.batches))]
    command += ["--precision", ",".join(options.precision), *(["--quick"] if options.quick else [])]
    started = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            process.wait(seconds + SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        except BaseException:
            process.kill()
            raise
    result: Json = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    result["seconds"] = round(time.perf_counter() - started, 1)
    if process.returncode or not result.pop("finished", False):
        tail = log.read_text(errors="replace").splitlines()[-15:]
        result["missing"] = f"the process ended with {process.returncode} before it was through"
        result["log"] = tail
    return result


def run_all(options: argparse.Namespace) -> Json:
    """Every part, one after the other."""
    ends = time.monotonic() + options.seconds
    parts = ["machine", *options.models]
    document: Json = {"schema_version": 1, "command": sys.argv, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        for index, part in enumerate(parts):
            left = ends - time.monotonic() - SECONDS_TO_STOP
            # A part that needs less leaves the rest to those after it.
            share = max(left / (len(parts) - index), min(left, 60.0))
            into = document["models"] if part in options.models else document
            if left < 5:
                into[part] = {"missing": f"no time left of {options.seconds:.0f} s"}
            else:
                print(f"== {part}: {share:.0f} s", file=sys.stderr, flush=True)
                into[part] = run_elsewhere(part, share, options, Path(folder))
            if options.out:
                write(Path(options.out), document)
    return document


def words_of(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="write the document here too, after each part")
    parser.add_argument("--models", type=words_of, default=words_of(DEFAULT_MODELS))
    parser.add_argument("--precision", type=words_of, default=["fp32", "fp16"])
    parser.add_argument("--batches", type=lambda text: [int(word) for word in words_of(text)], default=[1, 8])
    parser.add_argument("--seconds", type=float, default=480.0, help="for everything")
    parser.add_argument("--quick", action="store_true", help="short measurements: whether it works, not how fast")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(options)
    else:
        print(json.dumps(run_all(options), indent=1, default=str))


if __name__ == "__main__":
    main()
