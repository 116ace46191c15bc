"""`attn-export bench`: anything against anything, and nothing that isn't so. How fast it is, no test depends on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
import torch
from onnx import TensorProto

from attn_export.cli import run
from attn_export.exporter.artifacts import Precision
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.network.batches import nominal_batches
from attn_export.exporter.system.files import unique_names
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.export import export_loaded
from attn_export.exporter.workflows.settings import ExportSettings
from tests.cli.conftest import Finished
from tests.deployment.files import classifier
from tests.faults.quantization import quantized

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
BRIEF = ("--ci", "99%", "--seconds", "0.1", "--threads", "1")
QUICK = (*BRIEF, "--no-cost")
Command = Callable[..., Finished]


@pytest.fixture(scope="module")
def made(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, and what was made of it: float32, float16, int8, and a fixed batch."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(checkpoint, folder / "model.pt")
    model = load(folder / "model.pt")
    export_loaded(
        model, folder, "model", ExportSettings(runtimes=(), precisions=(Precision.FP32, Precision.FP16)), NullProgress()
    )
    export_loaded(model, folder, "fixed", ExportSettings(runtimes=(), dynamic=(), batch=2), NullProgress())
    images = [batch.arrays["input"] for batch in nominal_batches(model.inputs, 4, 8)]
    quantized(folder / "model.onnx", folder / "model.int8.onnx", images, per_channel=True)
    return folder


@pytest.fixture
def there(folder: Path, made: Path) -> Path:
    """The same in the folder that the command runs in."""
    for path in made.iterdir():
        shutil.copy(path, folder / path.name)
    return folder


def record_of(done: Finished) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(record, SCHEMA)
    return record


def told(record: dict[str, Any]) -> list[tuple[str, str | None, str, int]]:
    return [(t["runtime"], t["artifact"], t["precision"], t["batch"]) for t in record["latency"]["timings"]]


@pytest.mark.usefixtures("there")
def test_everything_is_timed_against_the_checkpoint(attn_export: Command) -> None:
    files = ("model.onnx", "model.fp16.onnx", "model.int8.onnx")
    record = record_of(attn_export("bench", "model.pt", *files, *QUICK, "--json"))
    assert told(record) == [
        ("eager", None, "float32", 1),
        ("onnxruntime", "model.onnx", "float32", 1),
        ("onnxruntime", "model.fp16.onnx", "float16", 1),
        ("onnxruntime", "model.int8.onnx", "int8", 1),
    ]
    assert record["command"] == ["attn-export", "bench", "model.pt", *files, *QUICK, "--json"]
    assert record["model"]["name"] == "cbam_resnet8"
    assert [artifact["path"] for artifact in record["artifacts"]] == list(files)
    assert all(artifact["validation"] is None for artifact in record["artifacts"]), "nothing was compared"
    assert record["latency"]["timings"][0]["verdict"] == "baseline"
    assert {t["baseline"] for t in record["latency"]["timings"]} == {"eager"}
    (conditions,) = [run["conditions"] for run in record["latency"]["runs"]]
    assert conditions["gpus"] == []


@pytest.mark.usefixtures("there")
def test_without_a_checkpoint_the_first_file_is_the_baseline(attn_export: Command) -> None:
    record = record_of(attn_export("bench", "model.onnx", "model.fp16.onnx", *QUICK, "--json"))
    assert record["model"] is None
    assert [t["artifact"] for t in record["latency"]["timings"]] == ["model.onnx", "model.fp16.onnx"]
    assert record["latency"]["timings"][0]["ratio"] == 1.0


@pytest.mark.usefixtures("there")
def test_a_file_can_be_timed_against_another_of_the_same_name(attn_export: Command, there: Path) -> None:
    (there / "other").mkdir()
    shutil.copy(there / "model.fp16.onnx", there / "other" / "model.onnx")
    files = ("model.pt", "model.onnx", "other/model.onnx")
    done = attn_export("bench", *files, "--isolate", *BRIEF, "--budget", "latency=100s", "--report", "b.json,b.html")
    names = [f"{there.name}/model.onnx", "other/model.onnx"]
    for name in names:
        assert name in done.stdout
    record = json.loads((there / "b.json").read_text())
    assert [a["path"] for a in record["artifacts"]] == names
    assert [t["artifact"] for t in record["latency"]["timings"]] == [None, *names]
    assert [g["artifact"] for g in record["graphs"]] == names
    assert [c["artifact"] for c in record["attention_cost"]] == names
    for gate in record["gate_activations"]["gates"]:
        assert set(gate["differences"]) == set(names)
        assert gate["differences"][names[0]] < gate["differences"][names[1]], "float16 differs by more"


def test_names_are_no_longer_than_they_have_to_be(tmp_path: Path) -> None:
    paths = [tmp_path / part for part in ("a/x/model.onnx", "b/x/model.onnx", "b/y/model.onnx", "b/y/other.onnx")]
    assert unique_names(paths) == ("a/x/model.onnx", "b/x/model.onnx", "y/model.onnx", "other.onnx")
    assert unique_names([Path("model.onnx")]) == ("model.onnx",)


@pytest.mark.usefixtures("there")
def test_every_batch_has_a_run_and_a_baseline_of_its_own(attn_export: Command) -> None:
    record = record_of(attn_export("bench", "model.pt", "model.onnx", "--batch", "1,4", *QUICK, "--json"))
    assert [run["batch"] for run in record["latency"]["runs"]] == [1, 4]
    assert [(t["runtime"], t["batch"]) for t in record["latency"]["timings"]] == [
        ("eager", 1),
        ("onnxruntime", 1),
        ("eager", 4),
        ("onnxruntime", 4),
    ]
    for t in record["latency"]["timings"]:
        assert t["images_per_second"] == pytest.approx(t["batch"] / t["median_ms"] * 1e3)


@pytest.mark.usefixtures("there")
def test_without_a_batch_a_file_is_timed_at_the_one_that_it_fixes(attn_export: Command) -> None:
    """fixed.onnx takes two images, no more and no fewer."""
    record = record_of(attn_export("bench", "model.pt", "model.onnx", "fixed.onnx", *QUICK, "--json"))
    assert [run["batch"] for run in record["latency"]["runs"]] == [2]


@pytest.mark.usefixtures("there")
def test_a_process_of_its_own_is_reported(attn_export: Command) -> None:
    record = record_of(attn_export("bench", "model.pt", "model.onnx", "--isolate", *QUICK, "--json"))
    assert [t["process"] for t in record["latency"]["timings"]] == ["shared", "own"]


@pytest.mark.usefixtures("there")
def test_the_cpus_are_those_that_were_chosen(attn_export: Command) -> None:
    import os

    before = os.sched_getaffinity(0)
    first = min(before)
    record = record_of(attn_export("bench", "model.onnx", "--cpus", str(first), *QUICK, "--json"))
    assert record["latency"]["cpus"] == [first]
    assert record["latency"]["threads"] == 1
    assert os.sched_getaffinity(0) == before


@pytest.mark.usefixtures("there")
def test_what_attention_costs_is_reported(attn_export: Command) -> None:
    record = record_of(attn_export("bench", "model.onnx", "model.int8.onnx", *BRIEF, "--json"))
    cost, rounded = record["attention_cost"]
    assert cost["artifact"] == "model.onnx"
    assert rounded["artifact"] == "model.int8.onnx"
    assert rounded["with_ms"] is None
    assert "rounds to whole numbers" in rounded["missed"], "and not silently left out"
    assert [block["kind"] for block in cost["blocks"]] == ["CBAM"] * 3
    assert cost["with_ms"] > 0
    assert cost["without_ms"] > 0


@pytest.mark.usefixtures("there")
def test_tables_line_up_and_reports_are_named(attn_export: Command, there: Path) -> None:
    done = attn_export("bench", "model.pt", "model.onnx", *BRIEF, "--report", "b.md,b.json")
    assert done.returncode == 0, done.stderr
    assert "Latency" in done.stdout
    assert "Attention" in done.stdout
    jsonschema.validate(json.loads((there / "b.json").read_text()), SCHEMA)
    assert "onnxruntime" in (there / "b.md").read_text()
    assert "b.md" in done.stdout


@pytest.mark.usefixtures("there")
def test_budgets_decide_the_exit_code_and_the_report_is_there(attn_export: Command, there: Path) -> None:
    kept = attn_export("bench", "model.pt", "model.onnx", *QUICK, "--budget", "latency=1000s,eager:p99=1000s")
    assert kept.returncode == 0, kept.stderr
    done = attn_export("bench", "model.pt", "model.onnx", *QUICK, "--budget", "latency=1e-9ms", "--report", "b.json")
    assert done.returncode == 1
    assert "latency=1e-9ms" in done.stderr
    (budget,) = json.loads((there / "b.json").read_text())["budgets"]
    assert (budget["state"], budget["artifact"], budget["runtime"]) == ("broken", "model.onnx", "onnxruntime")
    assert budget["interval"][0] <= budget["value"] <= budget["interval"][1]


@pytest.mark.usefixtures("there")
def test_a_broken_budget_is_part_of_the_document(attn_export: Command) -> None:
    done = attn_export("bench", "model.onnx", *QUICK, "--budget", "latency=1e-9ms", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == document["error"]["exit_code"] == 1
    assert document["budgets"][0]["state"] == "broken"


def test_a_file_of_another_exporter_needs_its_image_size_only_where_it_is_open(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    image = torch.zeros(1, 3, 12, 20)
    torch.onnx.export(network.eval(), (image,), folder / "fixed.onnx", dynamo=False)
    open_axes = {"picture": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        network, (image,), folder / "open.onnx", input_names=["picture"], dynamic_axes=open_axes, dynamo=False
    )
    assert run(["bench", "fixed.onnx", *QUICK, "--quiet"]) == 0
    assert run(["bench", "open.onnx", *QUICK, "--quiet"]) == 3
    assert "--input 1x3x224x224" in capsys.readouterr().err
    assert run(["bench", "open.onnx", "--input", "2x3x16x24", *QUICK, "--quiet"]) == 0


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        (["N", 8, "H", "W"], "--input 1x8x224x224"),
        (["N", "H", "W", 4], "--input 1x224x224x4"),
        (["1", "8"], "--input 1x16"),
        ([], "export the number as a constant"),
    ],
)
def test_the_hint_of_a_missing_size_fits_the_file(folder: Path, refused: Command, shape: Any, hint: str) -> None:
    taken, given = (onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [taken], [given])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "a.onnx")
    refused(3, "bench", "a.onnx", *QUICK, "--quiet", says=["a.onnx takes x"], hint=hint)


def test_files_for_images_of_different_sizes_are_not_timed_against_each_other(folder: Path, refused: Command) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    for name, size in (("small", 12), ("large", 20)):
        torch.onnx.export(network, (torch.zeros(1, 3, size, size),), folder / f"{name}.onnx", dynamo=False)
    refused(3, "bench", "small.onnx", "large.onnx", "--quiet", says=["small.onnx", "3x12x12", "large.onnx", "3x20x20"])


# What doesn't fit.


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["model.onnx", "--batch", "0"], 2, "--batch 0"),
        (["model.onnx", "--batch", "1,many"], 2, "--batch many"),
        (["model.onnx", "--ci", "0"], 2, "--ci '0'"),
        (["model.onnx", "--ci", "tight"], 2, "--ci 'tight'"),
        (["model.onnx", "--threads", "1000000"], 2, "--threads"),
        (["model.onnx", "--cpus", "3-1"], 2, "--cpus 3-1"),
        (["model.onnx", "--cpus", "9999"], 2, "9999"),
        (["model.onnx", "--cpus", "4000"], 2, "4000"),
        (["model.onnx", "--runtimes", "eager"], 2, "eager"),
        (["model.onnx", "--runtimes", "fastest"], 2, "fastest"),
        (["model.pt", "model.pt"], 2, "both checkpoints"),
        (["model.onnx", "./model.onnx"], 2, "twice"),
        (["model.onnx", "--budget", "speed=3"], 2, "speed=3"),
        (["model.onnx", "--budget", "eager:latency=3"], 2, "eager"),
        (["model.pt", "model.onnx", "--budget", "drop=1%"], 2, "drop=1%"),
        (["model.onnx", "--arch", "cbam_resnet8"], 2, "--arch"),
        (["model.onnx", "--report", "b.pdf"], 2, "b.pdf"),
        (["model.onnx", "--input", "4x3x16x16", "--batch", "1"], 2, "contradict"),
        (["model.pt", "--isolate", "--runtimes", "onnxruntime"], 2, "onnxruntime"),
        (["fixed.onnx", "--batch", "1"], 3, "fixed.onnx"),
        (["model.onnx", "--input", "1x4x16x16"], 3, "model.onnx"),
        (["missing.onnx"], 3, "missing.onnx"),
        (["model.engine"], 3, "model.engine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
@pytest.mark.usefixtures("there")
def test_what_does_not_fit_is_reported_before_anything_is_timed(
    refused: Command, arguments: list[str], code: int, says: str
) -> None:
    refused(code, "bench", *arguments, "--quiet", says=[says])


@pytest.mark.usefixtures("there")
def test_a_report_into_a_folder_that_is_a_file_cannot_be_written(refused: Command) -> None:
    refused(6, "bench", "model.onnx", "--report", "model.pt/b.html", "--quiet", says=["b.html"])


@pytest.mark.usefixtures("there")
def test_what_takes_no_numbers_is_not_timed(refused: Command, there: Path) -> None:
    model = onnx.load(there / "model.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    (there / "words.onnx").write_bytes(model.SerializeToString())
    refused(3, "bench", "words.onnx", "--quiet", says=["words.onnx"])


def test_an_engine_without_its_gpu_is_reported_at_once(folder: Path, refused: Command) -> None:
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.system import gpus
    from tests.engine.building import build_file

    if gpus.found():
        pytest.skip("there is a GPU here")
    model = load(folder / "model.pt")
    export_loaded(model, folder, "model", ExportSettings(runtimes=()), NullProgress())
    build_file(folder / "model.onnx", folder / "model.engine", EngineSettings(gpus=("sm86",), count_ablated=False))
    refused(5, "bench", "model.onnx", "model.engine", "--quiet", says=["model.engine", "no GPU"])


def test_a_bfloat16_file_is_named_that_no_cpu_runs(folder: Path, refused: Command) -> None:
    classifier(folder / "half.onnx", dtype=TensorProto.BFLOAT16)
    refused(5, "bench", "half.onnx", "--quiet", says=["half.onnx is bf16"], hint="an engine of it")


def test_a_wrong_option_leads_to_the_options_of_its_command(folder: Path, refused: Command) -> None:
    refused(2, "bench", "half.onnx", "--bach", "1", says=["--bach"], hint="attn-export bench --help")
