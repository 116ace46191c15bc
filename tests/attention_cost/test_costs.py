"""What attention costs in real files, and what is said where a part can't be measured."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import onnx_ir as ir
import onnxruntime
import pytest
from msgspec import structs

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.read import read
from attn_export.exporter.latency.attention_cost import costs, pair
from attn_export.exporter.latency.attention_cost import profile as profile_module
from attn_export.exporter.latency.attention_cost.attribution import UNKNOWN
from attn_export.exporter.latency.attention_cost.costs import attention_costs
from attn_export.exporter.latency.attention_cost.pair import Pair
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.records.attention import AttentionCost
from attn_export.exporter.records.document import plain as plain_values
from attn_export.exporter.records.document import schema
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.progress import NullProgress
from tests.attention_cost.conftest import FORMS, ONE_THREAD, SHORT, as_file
from tests.engine.graphs import conv, gate, gate_weights, saved, stated, weight

Network = Callable[..., OnnxFile]
ROOT = Path(__file__).resolve().parents[2]
# The keys of the record, which the page and comparisons rely on.
KEYS = {
    *("artifact", "runtime", "batch", "with_ms", "without_ms", "ratio", "ratio_interval", "verdict", "macs"),
    *("attention_macs", "profiled_ms", "attention_ms", "unattributed_ms", "blocks", "missed"),
}
BLOCK_KEYS = {"module_path", "kind", "channels", "macs", "ms", "share", "kernels"}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where profiles go; empty afterwards, whatever happened."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(folder)
    yield folder
    assert list(folder.iterdir()) == []


def cost_of(file: OnnxFile, batch: int = 1, settings: Settings = ONE_THREAD) -> Any:
    (cost,) = attention_costs([file], batch, settings, SHORT, NullProgress())
    return cost


@pytest.mark.parametrize("form", FORMS)
def test_all_parts_are_measured_and_add_up(network: Network, form: str) -> None:
    file = network("cbam_resnet8", form)
    cost = cost_of(file)
    assert cost.missed == ""
    assert (cost.artifact, cost.runtime, cost.batch) == (file.path.name, "onnxruntime", 1)
    assert cost.with_ms > 0
    assert cost.without_ms > 0
    assert cost.ratio_interval[0] <= cost.ratio <= cost.ratio_interval[1]
    assert cost.verdict in ("slower", "faster", "can't tell")
    assert [block.module_path for block in cost.blocks] == [f"layer{i}.0.attention" for i in (1, 2, 3)]
    assert {block.kind for block in cost.blocks} == {"CBAM"}
    assert [block.channels for block in cost.blocks] == [16, 32, 64]
    assert all(block.kernels >= 5 for block in cost.blocks)
    assert all(block.ms >= 0 for block in cost.blocks)
    assert cost.attention_ms > 0
    assert cost.unattributed_ms == 0
    assert cost.attention_ms == pytest.approx(sum(block.ms for block in cost.blocks))
    assert cost.attention_ms + cost.unattributed_ms < cost.profiled_ms
    for block in cost.blocks:
        assert block.share == pytest.approx(block.ms / cost.profiled_ms)
    assert cost.attention_macs == sum(block.macs for block in cost.blocks)
    assert 0 < cost.attention_macs < cost.macs


def test_its_fields_are_those_of_the_record(network: Network) -> None:
    plain = plain_values(cost_of(network("se_resnet8")))
    assert set(plain) == KEYS
    assert all(set(block) == BLOCK_KEYS for block in plain["blocks"])
    nothing = plain_values(AttentionCost("model.onnx", "onnxruntime", 1, missed="out of order"))
    for entry in (plain, nothing):
        jsonschema.validate(entry, schema(AttentionCost))


def test_the_pair_takes_half_of_the_time(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measured(*given: Any) -> Any:
        seen.append(given[2])
        return measure(*given)

    monkeypatch.setattr(pair, "measure", measured)
    cost_of(network("se_resnet8"))
    assert seen == [structs.replace(SHORT, seconds=SHORT.seconds / 2)]


@pytest.mark.parametrize("batch", [1, 4])
def test_the_batch_is_the_one_that_was_asked_for(network: Network, batch: int) -> None:
    cost = cost_of(network("se_resnet8"), batch)
    assert cost.batch == batch
    assert cost.missed == ""
    assert cost.macs == cost_of(network("se_resnet8")).macs


def test_a_file_of_a_fixed_batch_is_measured_at_that(network: Network, tmp_path: Path) -> None:
    model = read(network("se_resnet8").path)
    model.graph.inputs[0].shape = ir.Shape([2, 3, 16, 16])
    onnx_file.save(model, tmp_path / "two.onnx")
    file = as_file(tmp_path / "two.onnx")
    assert cost_of(file, 2).missed == ""
    assert "two.onnx" not in (missed := cost_of(file, 3).missed)
    assert "onnxruntime can't run this artifact" in missed


def test_weights_may_stand_beside_the_file(network: Network, tmp_path: Path) -> None:
    onnx_file.save(read(network("se_resnet8").path), tmp_path / "outside.onnx", largest_inside=0)
    before = {entry.name for entry in tmp_path.iterdir()}
    cost = cost_of(as_file(tmp_path / "outside.onnx"))
    assert cost.missed == ""
    assert len(cost.blocks) == 3
    assert {entry.name for entry in tmp_path.iterdir()} == before


def test_nothing_is_measured_of_a_plain_network(network: Network) -> None:
    files = [network("resnet8"), network("se_resnet8"), network("resnet8", "tensorrt")]
    made = attention_costs(files, 1, ONE_THREAD, SHORT, NullProgress())
    assert [cost.artifact for cost in made] == [files[1].path.name]
    assert attention_costs([], 1, ONE_THREAD, SHORT, NullProgress()) == ()


def test_files_of_several_precisions_have_one_each(network: Network) -> None:
    files = [network("se_resnet8"), network("se_resnet8", "any.fp16")]
    made = attention_costs(files, 1, ONE_THREAD, SHORT, NullProgress())
    assert [cost.artifact for cost in made] == [file.path.name for file in files]
    assert made[0].attention_macs == made[1].attention_macs


# What can't be measured is said, and takes nothing else with it.


def test_a_network_that_has_no_twin_is_timed_alone(tmp_path: Path) -> None:
    nodes = [conv("x", "a"), *gate("a", "y", "se")]
    weights = [weight("w", 8, 8, 3, 3), *gate_weights()]
    cost = cost_of(as_file(saved(tmp_path / "end.onnx", nodes, weights, outputs=[stated("y", ("N", 8, 8, 8))])))
    assert cost.missed.startswith("the network can't be ablated")
    assert cost.with_ms > 0
    assert (cost.without_ms, cost.ratio, cost.ratio_interval, cost.verdict) == (None, None, None, None)
    assert cost.blocks[0].kernels >= 4


def test_a_profile_that_can_t_be_read_leaves_the_pair(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_module, "ENDING", "_another_ending")
    cost = cost_of(network("se_resnet8"))
    assert cost.missed.startswith("ONNX Runtime's profile can't be read")
    assert cost.ratio is not None
    assert cost.macs is not None
    assert (cost.profiled_ms, cost.attention_ms, cost.unattributed_ms, cost.blocks) == (None, None, None, ())


def test_no_room_for_the_profile_leaves_the_pair(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    cost = cost_of(network("se_resnet8"))
    assert cost.missed == "/nowhere/at/all can't be written: No such file or directory"
    assert cost.ratio is not None
    assert cost.blocks == ()


def test_shapes_that_can_t_be_told_leave_the_times(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "macs_of_blocks", lambda _: None)
    cost = cost_of(network("se_resnet8"))
    assert cost.missed == costs.NO_MACS
    assert (cost.macs, cost.attention_macs) == (None, None)
    assert [block.macs for block in cost.blocks] == [None] * 3
    assert cost.attention_ms > 0


def test_kernels_that_can_t_be_told_apart_are_said_and_counted(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attn_export.exporter.latency.attention_cost import blocks

    monkeypatch.setattr(blocks, "attributed", lambda kernels, *_: (UNKNOWN,) * len(kernels))
    cost = cost_of(network("se_resnet8"))
    assert "no kernel was found for layer1.0.attention, layer2.0.attention, layer3.0.attention" in cost.missed
    assert "unattributed" in cost.missed
    assert cost.unattributed_ms == pytest.approx(cost.profiled_ms)
    assert cost.attention_ms == 0
    assert [block.kernels for block in cost.blocks] == [0, 0, 0]


def test_on_a_gpu_the_pair_is_timed_and_the_blocks_are_not(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's runtime is this machine's CPU under another name; there is no GPU in this test."""
    from attn_export.exporter.runtimes import onnxruntime as cpu
    from attn_export.exporter.runtimes import onnxruntime_cuda

    class OnTheCpu(cpu.OnnxRuntime):
        device = "cuda"

    monkeypatch.setattr(onnxruntime_cuda, "OnnxRuntimeCuda", OnTheCpu)
    cost = cost_of(network("se_resnet8"), settings=Settings(threads=1, device="cuda"))
    assert cost.missed == costs.NOT_ON_A_GPU
    assert cost.ratio is not None
    assert cost.blocks == ()


def test_a_runtime_that_can_t_be_had_is_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    cost = cost_of(network("se_resnet8"))
    assert "out of order" in cost.missed
    assert cost == structs.replace(AttentionCost(cost.artifact, "onnxruntime", 1), missed=cost.missed)


def test_an_interruption_goes_through(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profile_module, "_kernels", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cost_of(network("se_resnet8"))


@pytest.mark.parametrize(("with_ms", "expected"), [(0.1, costs.MOST), (1000.0, costs.FEWEST), (100.0, 10)])
def test_the_profile_takes_an_eighth_of_the_time(with_ms: float, expected: int) -> None:
    assert costs._inferences(structs.replace(SHORT, seconds=8.0), Pair(with_ms)) == expected
