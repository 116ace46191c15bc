"""What ONNX Runtime runs, and how long each part takes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.latency.attention_cost import profile as module
from attn_export.exporter.latency.attention_cost.overhead import KERNELS, overhead_ms
from attn_export.exporter.latency.attention_cost.profile import profile
from tests.attention_cost.conftest import ONE_THREAD, as_file, images_of, kernels_of
from tests.engine.graphs import conv, node, saved, stated, weight

Network = Callable[..., OnnxFile]


def test_kernels_stand_in_the_order_in_which_they_run(network: Network, tmp_path: Path) -> None:
    kernels = kernels_of(network("se_resnet8"), tmp_path)
    made = {"input"} | {name for kernel in kernels for name in kernel.writes}
    seen = {"input"}
    for kernel in kernels:
        assert {name for name in kernel.reads if name in made} <= seen
        seen |= set(kernel.writes)
    assert "logits" in seen


def test_every_kernel_has_a_name_of_its_own_and_a_time(network: Network, tmp_path: Path) -> None:
    kernels = kernels_of(network("cbam_resnet8", "tensorrt"), tmp_path)
    assert len({kernel.name for kernel in kernels}) == len(kernels)
    assert all(kernel.ms >= 0 for kernel in kernels)
    assert sum(kernel.ms for kernel in kernels) > 0


def test_an_operator_that_is_expanded_has_kernels_without_names_of_ours(network: Network, tmp_path: Path) -> None:
    """HardSwish after a Gemm is a function; the file has it whole."""
    file = network("se_mobilenet_v3_small")
    assert "HardSwish" in {n.op_type for n in named(read(file.path)).graph}
    kernels = kernels_of(file, tmp_path)
    assert "HardSwish" not in {kernel.op_type for kernel in kernels}
    assert all(kernel.name for kernel in kernels)


def test_the_weights_that_are_saved_beside_the_graph_are_gone_before_it_runs(network: Network, tmp_path: Path) -> None:
    kernels_of(network("se_resnet8"), tmp_path)
    assert not (tmp_path / module.WEIGHTS).exists()
    assert {entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("profile")} == {module.OPTIMIZED}


def test_the_body_of_an_if_counts_once(tmp_path: Path) -> None:
    """Its kernels have events of their own, and their time is in that of the If."""
    value = [stated("z")]
    branches = [helper.make_graph([node(op, "a", "z", "inner")], op, [], value) for op in ("Relu", "Neg")]
    nodes = [
        conv("x", "a"),
        node("ReduceMax", "a", "m", keepdims=0),
        node("Greater", "m limit", "c"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=branches[0], else_branch=branches[1]),
    ]
    limit = onnx.numpy_helper.from_array(np.float32(0), "limit")
    path = saved(tmp_path / "if.onnx", nodes, [weight("w", 8, 8, 3, 3), limit])
    kernels = kernels_of(as_file(path), tmp_path)
    assert [kernel.op_type for kernel in kernels].count("If") == 1
    assert not {"Relu", "Neg"} & {kernel.op_type for kernel in kernels}


def test_a_profile_of_another_form_is_refused_in_words(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = network("se_resnet8")

    def profiled():
        return profile(named(read(file.path)), file.path, file.signature, ONE_THREAD, images_of(file), 1, tmp_path)

    others: list[Any] = [[{"cat": "Node", "name": "a_kernel_time"}], [], {"events": []}, [{"cat": "Node", "name": 3}]]
    for events in others:
        monkeypatch.setattr(json, "loads", lambda _, events=events: events)
        with pytest.raises(RuntimeUnavailableError, match="profile can't be read"):
            profiled()
    monkeypatch.undo()
    assert profiled()


def test_the_mean_of_the_middle_half_is_not_moved_by_what_disturbs() -> None:
    assert module._typical([2.0, 3.0, 2.0, 3.0, 2.0, 900.0, 3.0, 0.0]) == pytest.approx(2.5)
    assert module._typical([4.0]) == 4.0
    assert module._typical([4.0, 5.0]) == 4.5


def test_what_the_profiler_adds_is_seen_on_kernels_that_do_nothing(tmp_path: Path) -> None:
    added = overhead_ms(ONE_THREAD, tmp_path)
    assert added >= 0
    graph = onnx.load(tmp_path / module.OPTIMIZED).graph
    assert [n.op_type for n in graph.node] == ["Flatten"] * KERNELS, "none of them was fused away"
