"""Small artifacts with what an export writes into them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from msgspec import structs
from onnx import TensorProto, helper, numpy_helper

from attn_export.exporter.records.report import OnnxRecord, Report
from attn_export.exporter.system.files import sha256_of
from tests.budgets.sample import sample_report, sample_timing

CHECKPOINT = "c" * 64
FACTS: dict[str, Any] = {
    "class_names": ["cat", "dog", 'über "cow"'],
    "normalization": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]},
    "validation": {"agrees": True, "runtime": "onnxruntime", "worst_tensor": "output", "error": 1e-7, "ratio": 1.5},
}
PIXELS: dict[str, Any] = {
    "class_names": FACTS["class_names"],
    "preprocessing": {"layout": "nhwc", "order": "bgr", "normalization": FACTS["normalization"]},
}


def classifier(
    path: Path,
    dims: Sequence[int | str] = ("batch", 3, 8, 8),
    facts: Mapping[str, Any] = FACTS,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A file of three classes: the means of the channels through a layer."""
    channels = next(i for i, size in enumerate(dims) if i and size == 3)
    axes = [i for i in range(1, len(dims)) if i != channels]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weight"], ["output"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("input", dtype, list(dims))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [dims[0], 3])],
        [
            numpy_helper.from_array(np.array(axes, np.int64), "axes"),
            numpy_helper.from_array(np.arange(9, dtype=np.float32).reshape(3, 3), "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    values = {key: json.dumps(value) for key, value in facts.items()} | {"source_sha256": CHECKPOINT}
    helper.set_model_props(model, {f"attn_export.{key}": value for key, value in values.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def measured(path: Path, milliseconds: dict[int, float]) -> Report:
    """A bench of the file at several batches."""
    report = sample_report()
    timings = [sample_timing("onnxruntime", ms, artifact=path.name, batch=n) for n, ms in milliseconds.items()]
    record = next(one for one in report.artifacts if isinstance(one, OnnxRecord))
    own = structs.replace(record, path=path.name, sha256=sha256_of(path))
    return structs.replace(report, artifacts=(own,), latency=structs.replace(report.latency, timings=tuple(timings)))


def write_keys(folder: Path, public: str = "key.pub.pem", *, key: Any = None) -> tuple[Path, Path]:
    """A private key, ``key.pem`` (of curve P-256 unless one is given), and its public one."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(exist_ok=True)
    paths = folder / "key.pem", folder / public
    paths[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return paths
