"""Bundles, validated and built."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from attn_export.exporter.system.files import sha256_of
from tests.cli.engines.conftest import (
    Command,
    Computed,
    Done,
    engine_of,
    names,
)


@pytest.fixture(scope="module")
def bundle(done_once: Callable[..., Done], computed: Computed) -> Done:
    return done_once("--engine", "--gpu", "sm87", "--profile-batch", "1,2,4", "--no-bench", shortcut=computed)


def test_the_onnx_file_agrees_with_its_bundle(bundle: Done, attn_export: Command) -> None:
    done = attn_export("validate", str(bundle["model.sm87.bundle.zip"]), str(bundle["model.onnx"]))
    assert done.returncode == 0, done.stderr
    assert "agrees" in done.stdout
    assert "DISAGREES" not in done.stdout
    document = json.loads(
        attn_export("validate", str(bundle["model.sm87.bundle.zip"]), str(bundle["model.onnx"]), "--json").stdout
    )
    assert document["validation"]["agrees"] is True
    assert document["bundle"]["architecture"] == "sm87"
    assert [comparison["tensor"] for comparison in document["validation"]["comparisons"]]


def test_a_graph_of_other_weights_does_not_agree_with_the_bundle(
    bundle: Done, attn_export: Command, folder: Path
) -> None:
    model = onnx.load(bundle["model.onnx"])
    kernel = next(n for n in model.graph.node if n.op_type == "Conv").input[1]
    (tensor,) = [t for t in model.graph.initializer if t.name == kernel]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.01), kernel))
    onnx.save(model, folder / "other.onnx")
    done = attn_export("validate", str(bundle["model.sm87.bundle.zip"]), "other.onnx")
    assert done.returncode == 1
    assert "DISAGREES" in done.stdout
    assert "doesn't compute the golden outputs" in done.stderr
    done = attn_export("validate", str(bundle["model.sm87.bundle.zip"]), "other.onnx", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["validation"]["agrees"], document["error"]["exit_code"]) == (False, 1)


def test_an_engine_is_not_validated_without_a_gpu(bundle: Done, plain: Done, refused: Command) -> None:
    refused(
        5,
        "validate",
        str(bundle["model.sm87.bundle.zip"]),
        str(plain["model.engine"]),
        says=["can't be run", "no GPU"],
        hint="on the device",
    )


def test_what_is_no_bundle_is_refused(bundle: Done, refused: Command) -> None:
    refused(3, "validate", "nope.bundle.zip", str(bundle["model.onnx"]), says=["nope.bundle.zip"])
    refused(3, "validate", str(bundle["model.sm87.bundle.zip"]), "nope.engine", says=["nope.engine"])


def test_a_bundle_is_built_on_the_device(bundle: Done, refused: Command) -> None:
    refused(
        5,
        "build",
        str(bundle["model.sm87.bundle.zip"]),
        says=["sm87", "no GPU here"],
        hint="Copy the bundle to the device",
    )


def test_a_bundle_is_built_here_where_that_is_asked(bundle: Done, attn_export: Command, folder: Path) -> None:
    path = str(bundle["model.sm87.bundle.zip"])
    done = attn_export("build", path, "--backend", "tensorrt-rtx", "--gpu", "sm86", "-o", "here.engine", "--json")
    assert done.returncode == 0, done.stderr
    assert "the bundle is for sm87, and the engine is for sm86" in done.stderr
    assert names(folder) == {"here.engine", "here.engine.json"}
    record = engine_of(folder, "here.engine")
    assert record["bundle"] == {
        "path": "model.sm87.bundle.zip",
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    }
    assert record["onnx"]["sha256"] == sha256_of(bundle["model.onnx"])
    (engine,) = json.loads(done.stdout)["engines"]
    assert (engine["path"], engine["record"]["gpus"]) == ("here.engine", ["sm86"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--precision", "fp16"], "bundle.zip is fp32"),
        (["--profile-batch", "4", "--gpu", "sm86"], "sets the shapes"),
        (["--precision", "tf32"], "bundle.zip is fp32"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_bundle_says_is_not_said_again(bundle: Done, refused: Command, arguments: list[str], says: str) -> None:
    refused(2, "build", str(bundle["model.sm87.bundle.zip"]), *arguments, says=[says])
