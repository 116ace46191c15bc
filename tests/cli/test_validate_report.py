"""`attn-export validate … --report`: what was found, on a page."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from attn_export.cli import run
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.network.batches import nominal_batches
from tests.cli.conftest import Finished
from tests.faults.quantization import quantized

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text())
Command = Callable[..., Finished]


@pytest.fixture(scope="module")
def made(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `--onnx` makes, the same with one weight changed, and in int8."""
    out = tmp_path_factory.mktemp("made")
    shutil.copy(checkpoint, out / "model.pt")
    assert run([str(out / "model.pt"), "--onnx", "--no-bench", "--quiet"]) == 0
    model = onnx.load(out / "model.onnx")
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    (out / "other").mkdir()
    onnx.save(model, out / "other" / "model.onnx")
    images = [batch.arrays["input"] for batch in nominal_batches(load(checkpoint).inputs, 4, 8)]
    quantized(out / "model.onnx", out / "model.int8.onnx", images, per_channel=True)
    return out


@pytest.fixture
def there(made: Path, folder: Path) -> Path:
    """The same in the folder that the command runs in."""
    return Path(shutil.copytree(made, folder, dirs_exist_ok=True))


def record_in(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(record, SCHEMA)
    return record


@pytest.mark.usefixtures("there")
def test_every_form_is_written(attn_export: Command, there: Path) -> None:
    done = attn_export("validate", "model.pt", "model.onnx", "--quiet", "--report", "r.html,r.md", "--report", "r.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == ["r.html", "r.md", "r.json"]
    record = record_in(there / "r.json")
    (file,) = record["artifacts"]
    assert file["validation"]["agrees"]
    assert [block["kind"] for block in file["attention"]] == ["CBAM"] * 3
    assert record["graphs"][0]["after"]["operators"]
    assert {"PyTorch", "model.onnx"} == set(record["gate_activations"]["gates"][0]["values"])
    assert record["latency"]["timings"] == []
    assert "Agrees" in (there / "r.md").read_text()
    page = (there / "r.html").read_text()
    assert "Nothing was timed" in page
    assert "before and after" not in page, "how it was captured isn't known"


@pytest.mark.usefixtures("there")
def test_a_report_of_what_disagrees_is_there_and_says_where_it_starts(attn_export: Command, there: Path) -> None:
    files = ("model.onnx", "other/model.onnx")
    done = attn_export("validate", "model.pt", *files, "--quiet", "--report", "r.json,r.md,r.html")
    assert done.returncode == 1
    good, bad = record_in(there / "r.json")["artifacts"]
    assert (good["path"], bad["path"]) != ("model.onnx", "model.onnx"), "two of one name are told apart"
    assert (good["error"], good["first_divergence"]) == (None, None)
    assert bad["first_divergence"]["module_path"]
    assert bad["error"]["message"] in done.stderr
    assert bad["first_divergence"]["module_path"] in (there / "r.md").read_text()
    assert bad["first_divergence"]["module_path"] in (there / "r.html").read_text()


@pytest.mark.usefixtures("there")
def test_an_int8_file_says_what_it_is_compared_with(attn_export: Command, there: Path) -> None:
    done = attn_export("validate", "model.pt", "model.int8.onnx", "--quiet", "--report", "r.json,r.html")
    assert done.returncode == 0, done.stderr
    (file,) = record_in(there / "r.json")["artifacts"]
    assert file["precision"] == "int8"
    assert file["quantized"]["sqnr_db"]
    assert "own graph" in (there / "r.html").read_text()


@pytest.mark.usefixtures("there")
def test_a_report_that_cannot_be_written_is_reported_before_the_work(refused: Command) -> None:
    refused(2, "validate", "model.pt", "model.onnx", "--report", "r.pdf", says=["r.pdf", ".html"])
    refused(6, "validate", "model.pt", "model.onnx", "--report", "model.pt/r.md", says=["r.md"])


@pytest.mark.usefixtures("there")
def test_a_bundle_has_no_page(refused: Command, there: Path) -> None:
    (there / "a.bundle.zip").write_bytes(b"")
    refused(2, "validate", "a.bundle.zip", "model.onnx", "--report", "r.md", says=["--report is for a checkpoint"])
