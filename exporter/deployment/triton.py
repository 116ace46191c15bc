"""The configuration of a model in a repository of Triton Inference Server.

The format: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto. Repositories:
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from attn_export.exporter.artifacts import Preprocessing, fixed
from attn_export.exporter.deployment.text_format import Message, Value, Word, text_format
from attn_export.exporter.errors import InputError
from attn_export.exporter.records.artifact import Tensor
from attn_export.exporter.records.latency import Timing

TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}
# Noise is within the range of these; an index beyond an embedding would fail.
DRAWN = ("float16", "float32", "float64", "uint8", "int8")
ONNX, PLAN = "onnxruntime_onnx", "tensorrt_plan"
LABELS = "labels.txt"
# A batch size is preferred if it has so much more throughput than every smaller one.
WORTHWHILE = 1.05


@dataclass(frozen=True)
class Served:
    """One model of a repository.

    Attributes:
        platform: `ONNX` or `PLAN`.
        inputs, outputs: of the artifact; types are numpy's.
        shapes: of the inputs in the warm-up, by name, without N; without those whose sizes nothing says.
        max_batch: 0 if the artifact has no open batch axis.
        instances: number and kind, such as "KIND_AUTO".
        labels: whether there is a file with the names of classes.
        timings: of this artifact, for several batches; empty without a measurement.
        origin: lines about where it comes from, for people.
    """

    name: str
    platform: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    shapes: dict[str, tuple[int, ...]]
    max_batch: int
    instances: tuple[int, str]
    labels: bool = False
    timings: Sequence[Timing] = ()
    preprocessing: Preprocessing | None = None
    origin: Sequence[str] = field(default_factory=tuple)

    @property
    def file(self) -> str:
        """Name of the artifact in the folder of its version."""
        return "model.onnx" if self.platform == ONNX else "model.plan"


def config_of(served: Served) -> str:
    """The content of ``config.pbtxt``. Raises InputError: Triton has no such type."""
    config: dict[str, Value] = {
        "name": served.name,
        "platform": served.platform,
        "max_batch_size": served.max_batch,
        "default_model_filename": served.file,
        "input": [_input(tensor, served) for tensor in served.inputs],
        "output": [_output(tensor, served) for tensor in served.outputs],
        "instance_group": [{"count": served.instances[0], "kind": Word(served.instances[1])}],
        "version_policy": {"latest": {"num_versions": 1}},
    }
    if served.max_batch > 1:
        config["dynamic_batching"] = _batching(served)
    if served.shapes:
        config["model_warmup"] = [_warm_up(served, batch) for batch in _warmed(served)]
    return "".join(f"# {line}\n" for line in served.origin) + text_format(config)


def preferred_batches(timings: Sequence[Timing], max_batch: int) -> tuple[int, ...]:
    """The batch sizes whose throughput is worth waiting for: 5 % above every smaller one, beyond the intervals."""
    preferred, best = [], 0.0
    for timing in sorted(timings, key=lambda timing: timing.batch):
        low, high = (timing.batch / milliseconds for milliseconds in reversed(timing.median_interval_ms))
        if best and timing.batch <= max_batch and low > WORTHWHILE * best:
            preferred.append(timing.batch)
        best = max(best, high)
    return tuple(preferred)


def _batching(served: Served) -> Message:
    """Preferred sizes; a request waits for others no longer than one image alone takes."""
    preferred = preferred_batches(served.timings, served.max_batch)
    if not preferred:
        return {}
    alone = min(served.timings, key=lambda timing: timing.batch)
    return {"preferred_batch_size": list(preferred), "max_queue_delay_microseconds": round(1000 * alone.median_ms)}


def _warmed(served: Served) -> tuple[int, ...]:
    """The batch sizes of the warm-up."""
    return tuple(sorted({1, *preferred_batches(served.timings, served.max_batch)})) if served.max_batch else (0,)


def _input(tensor: Tensor, served: Served) -> Message:
    dims = _dims(tensor, served)
    prepared = served.preprocessing
    if prepared is None or len(dims) != 3 or not served.max_batch:
        return {"name": tensor.name, "data_type": _type(tensor), "dims": dims}
    layout = Word(f"FORMAT_{prepared.layout.upper()}")
    return {"name": tensor.name, "data_type": _type(tensor), "format": layout, "dims": dims}


def _output(tensor: Tensor, served: Served) -> Message:
    known: dict[str, Value] = {"name": tensor.name, "data_type": _type(tensor), "dims": _dims(tensor, served)}
    if served.labels and tensor.dtype.startswith("float"):
        known["label_filename"] = LABELS
    return known


def _dims(tensor: Tensor, served: Served) -> list[int]:
    """The sizes, -1 where open; without N if Triton adds it."""
    if tensor.dims is None:
        raise InputError(
            f"nothing says how many axes {tensor.name} has, and Triton wants to know",
            hint="attn-export clean model.onnx -o clean.onnx infers shapes.",
        )
    return [fixed(dim) or -1 for dim in (tensor.dims[1:] if served.max_batch else tensor.dims)]


def _type(tensor: Tensor) -> Word:
    if tensor.dtype not in TYPES:
        raise InputError(
            f"{tensor.name} is {tensor.dtype or 'of unknown type'}, and this package serves numbers only",
            hint=f"Known are {', '.join(TYPES)}.",
        )
    return Word(TYPES[tensor.dtype])


def _warm_up(served: Served, batch: int) -> Message:
    """Noise of real shapes, so that the first request finds memory and kernels ready."""
    inputs: list[Message] = [
        {
            "key": tensor.name,
            "value": {
                "data_type": _type(tensor),
                "dims": list(served.shapes[tensor.name]),
                "random_data" if tensor.dtype in DRAWN else "zero_data": True,
            },
        }
        for tensor in served.inputs
    ]
    return {"name": f"batch {batch}" if batch else "warm-up", "batch_size": batch, "inputs": inputs}
