"""Plans: what is read, what is refused, and the cells that they make."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from attn_export.exporter.commands.sweep import load_options
from attn_export.exporter.errors import AttnExportError, InputError, UsageError
from attn_export.exporter.records.sweep import Cell
from attn_export.exporter.sweep.cells import canonical, grid_of
from attn_export.exporter.sweep.job import Make, Measure
from attn_export.exporter.sweep.plan import Model, Plan, plan_for, read_plan
from tests.sweep.conftest import ROOT


def written(folder: Path, text: str) -> Path:
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def networks(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"the weights of {name}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modles = ['a.pt']", "unknown key 'modles'.*Did you mean models"),
        ("models = ['a.pt']\nprecision = ['fp32']", "unknown key 'precision'.*Did you mean precisions"),
        ("models = [{path = 'a.pt', archh = 'se_resnet8'}]", "models: unknown key 'archh'.*Did you mean arch"),
        ("models = 'a.pt'", r"Expected `array`, got `str` - at `\$.models`"),
        ("precisions = ['fp32']", "missing required field `models`"),
        ("models = []", "models is empty"),
        ("models = ['a.pt']\nbatches = [1, 8, 1]", "batches has 1 twice"),
        ("models = ['a.pt', 'a.pt']", "models has 'a.pt' twice"),
        ("models = ['a.pt']\nbatches = [0]", "batches has 0"),
        ("models = ['a.pt']\nseconds = 0", "have to be positive"),
        ("models = [", "is not TOML"),
        ("models = 1979-05-27", r"at `\$.models`"),
    ],
)
def test_a_plan_that_cannot_be_understood_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(AttnExportError) as caught:
        read_plan(written(tmp_path, text))
    assert re.search(words, f"{caught.value.message}\n{caught.value.hint}", re.DOTALL)
    assert caught.value.exit_code in (2, 3)


def test_a_plan_nested_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not TOML"):
        read_plan(written(tmp_path, "a = " + "[" * 50_000))


def test_a_plan_of_more_cells_than_anybody_computes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="100,001 cells"):
        read_plan(written(tmp_path, f"models = {['a.pt'] * 100_001}"))


def test_a_missing_plan_names_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_plan(tmp_path / "plan.toml")
    assert "--init" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": ("b.pt",)}, "b.pt is missing"),
        ({"models": ("nets/*.pt",)}, "nothing matches"),
        ({"models": ("**/" * 600 + "*.pt",)}, "can't be looked for"),
        ({"models": ("se_resnet9000",)}, "no file in .* and no network of the zoo"),
        ({"models": ("notes.txt",)}, "no checkpoint and no ONNX file"),
        ({"models": ("a.pt", "*.pt")}, "named twice"),
        ({"models": (Model("a.pt", name="x"), Model("c.onnx", name="x"))}, "two are called x"),
        ({"precisions": ("fp31",)}, "precisions: 'fp31' is unknown"),
        ({"runtimes": ("onnx",)}, "runtimes: 'onnx' is unknown"),
        ({"targets": ("RTX 9999",)}, "targets: 'RTX 9999' is unknown"),
        ({"targets": ("current",)}, "another one on each machine"),
        ({"targets": ("RTX 4090", "sm89"), "runtimes": ("tensorrt-rtx",)}, "RTX 4090, sm89 are the same"),
        ({"targets": ("cpu", "sm86")}, "targets: sm86 makes no cell"),
        ({"precisions": ("fp16",), "runtimes": ("onnxruntime", "eager")}, "runtimes: eager makes no cell"),
        ({"precisions": ("int8",)}, "int8 needs images"),
        ({"precisions": ("int8",), "calibration": "images.npy"}, "the calibration images .* missing"),
        ({"precisions": ("int8",), "calibration": "."}, "holds no pictures: it holds a.pt"),
        ({"models": (Model("c.onnx", arch="se_resnet8"),)}, "is an ONNX file, which needs no code"),
        ({"models": (Model("a.pt", code="net.py:Net"),)}, "code .*net.py is missing"),
        ({"models": (Model("a.pt", code="nets"),)}, "holds no Python sources"),
        ({"models": (Model("a.pt", factory="build"),)}, "is no MODULE:FUNCTION"),
        ({"models": (Model("a.pt", arch="se_resnet8", factory="net:build"),)}, "contradict each other"),
        ({"models": (Model("a.pt", kwargs={"depth": 18}),)}, "and none was named"),
        ({"mean": (0.5,)}, "--std is missing"),
        ({"mean": (127.0,), "std": (1.0,)}, "for pixels of 0 to 255"),
    ],
)
def test_a_plan_without_sense_is_refused_before_anything_is_computed(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    networks(tmp_path, "a.pt", "c.onnx", "notes.txt", "nets/.hidden.py")
    with pytest.raises(AttnExportError, match=words):
        grid_of(structs.replace(Plan(("a.pt",)), **change), tmp_path, load_options)


def test_combinations_that_make_no_cell_are_counted(tmp_path: Path) -> None:
    networks(tmp_path, "a.pt", "b.onnx")
    plan = Plan(("a.pt", "b.onnx"), ("fp32", "fp16"), ("cpu", "sm86"), (1, 2), ("eager", "onnxruntime", "tensorrt-rtx"))
    grid = grid_of(plan, tmp_path, load_options)
    assert Cell("a", "fp32", "cpu", 1, "eager") in grid.cells
    assert len(grid.cells) == 2 + 2 * 2 * 2 * 2  # eager of a.pt in fp32; the others in both networks and precisions
    assert grid.left_out == {
        "tensorrt-rtx doesn't run on cpu": 8,
        "eager doesn't run on sm86": 8,
        "onnxruntime doesn't run on sm86": 8,
        "eager runs the checkpoint, which is fp32": 2,
        "eager runs checkpoints, not ONNX files": 4,
    }


def test_cells_share_the_files_that_they_need(tmp_path: Path) -> None:
    networks(tmp_path, "a.pt", "images.npy")
    plan = Plan(
        ("a.pt",), ("fp32", "int8"), ("cpu", "sm86"), (1, 2), ("onnxruntime", "tensorrt-rtx"), calibration="images.npy"
    )
    grid = grid_of(plan, tmp_path, load_options)
    makes = [job for job in grid.jobs.values() if isinstance(job.task, Make)]
    assert sorted(job.name for job in makes) == ["a fp32", "a int8 for onnxruntime", "a int8 for tensorrt"]
    assert len(grid.jobs) == 3 + len(grid.cells)
    chain = grid.chain(grid.cells[Cell("a", "int8", "sm86", 2, "tensorrt-rtx")])
    assert [job.name for job in chain[:-1]] == ["a fp32", "a int8 for tensorrt"]
    assert chain[-1].timed
    assert not chain[0].timed


def test_a_key_depends_on_what_decides_the_result_and_on_nothing_else(tmp_path: Path) -> None:
    networks(tmp_path, "a.pt", "b.pt")
    plan = Plan((Model("a.pt", name="x"),))

    def keys(plan: Plan) -> set[str]:
        return set(grid_of(plan, tmp_path, load_options).jobs)

    first = keys(plan)
    assert keys(structs.replace(plan, models=(Model("a.pt", name="another name"),))) == first
    assert keys(structs.replace(plan, batches=(1, 2))) > first
    assert not keys(structs.replace(plan, models=("b.pt",))) & first
    assert len(keys(structs.replace(plan, seconds=1.0)) & first) == 1  # the export
    assert not keys(structs.replace(plan, input="1x3x8x8")) & first
    (tmp_path / "a.pt").write_text("other weights")
    assert not keys(plan) & first


def test_sources_and_pictures_are_part_of_a_key(tmp_path: Path) -> None:
    networks(tmp_path, "a.pt", "src/net.py", "src/notes.txt", "photos/1/a.png")
    plan = Plan((Model("a.pt", code="src", factory="net:build"),), ("fp32", "int8"), calibration="photos")

    def keys() -> set[str]:
        return set(grid_of(plan, tmp_path, load_options).jobs)

    first = keys()
    networks(tmp_path, "src/log.txt", "src/.cache/x.py", "photos/notes.txt")
    assert keys() == first
    networks(tmp_path, "photos/2/b.png")
    assert len(keys() & first) == 2  # float32 and its timing
    networks(tmp_path, "src/layers/se.py")
    assert not keys() & first


def test_names_with_spaces_patterns_and_equal_stems_are_told_apart(tmp_path: Path) -> None:
    networks(tmp_path, "my nets/first net.pt", "my nets/second.pt", "others/second.pt")
    grid = grid_of(Plan(("my nets/*.pt", "others/second.pt")), tmp_path, load_options)
    assert [cell.model for cell in grid.cells] == ["first net", "my nets/second", "others/second"]


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp8"])
def test_precisions_of_engines_make_no_other_cells(precision: str, tmp_path: Path) -> None:
    networks(tmp_path, "a.pt", "images.npy")
    runtimes = ("onnxruntime", "tensorrt-rtx")
    plan = Plan(("a.pt",), ("fp32", precision), ("cpu", "sm89"), (1,), runtimes, calibration="images.npy")
    grid = grid_of(plan, tmp_path, load_options)
    assert [cell.runtime for cell in grid.cells if cell.precision == precision] == ["tensorrt-rtx"]
    assert grid.left_out[f"{precision} is for engines"] == 1
    assert len(grid.jobs) == len(grid.cells) + {"tf32": 1, "bf16": 2, "fp8": 2}[precision]


def test_networks_of_libraries_are_named_like_their_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", sys)  # it counts as installed
    (cell,) = grid_of(Plan(("timm:seresnet50",)), tmp_path, load_options).cells
    assert cell.model == "timm:seresnet50"


def test_a_network_of_the_zoo_needs_no_file(tmp_path: Path) -> None:
    grid = grid_of(Plan(("se_resnet8",), input="1x3x32x32"), tmp_path, load_options)
    (make,) = (job.task for job in grid.jobs.values() if isinstance(job.task, Make))
    assert make.network.zoo == "se_resnet8"
    assert make.network.options.inputs[0].shape == (1, 3, 32, 32)
    assert not grid.files


def test_targets_are_called_by_their_architecture() -> None:
    assert [canonical(name) for name in ("CPU", "RTX 4090", "sm_86", "jetson_orin")] == ["cpu", "sm89", "sm86", "sm87"]


def test_a_plan_is_written_for_what_is_in_a_folder(tmp_path: Path) -> None:
    networks(tmp_path, 'my "best" net.pt', "b.safetensors", "b.onnx", "images.npy")
    plan = read_plan(written(tmp_path, plan_for(tmp_path)))
    assert plan.models == ("b.safetensors", 'my "best" net.pt')
    assert plan.calibration == "images.npy"
    tasks = [job.task for job in grid_of(plan, tmp_path, load_options).jobs.values()]
    assert sum(isinstance(task, Measure) for task in tasks) == 2 * 2 * (2 + 1)


def test_onnx_files_are_taken_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    networks(tmp_path, "b.onnx")
    assert '"b.onnx"' in plan_for(tmp_path)


def test_a_folder_without_networks_has_no_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint and no ONNX file"):
        plan_for(tmp_path)


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        canonical("a toaster")


def test_the_plan_of_the_digits_makes_cells() -> None:
    folder = ROOT / "examples" / "digits"
    grid = grid_of(read_plan(folder / "plan.toml"), folder, load_options)
    assert len(grid.cells) == 2 * (2 + 2 * 2 + 2 * 2)  # eager in float32, the others in both precisions; two batches
    assert len(grid.jobs) == len(grid.cells) + 2 * 2
