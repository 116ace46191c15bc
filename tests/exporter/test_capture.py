"""What PyTorch's exporter gives comes out as asked, and what it can't give is an error that names the place."""

import gc
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.graph_module import _loader
from torch.nn import functional as F

from attn_export.exporter.artifacts import MODULE_KEY, Graph, LoadedModel
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.errors import CaptureError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.network.capture import capture

ALL_AXES = ("batch", "height", "width")


class Lambda(nn.Module):
    """A function as a module, so that it has a path."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def network(*after: nn.Module | Callable[[torch.Tensor], Any]) -> LoadedModel:
    """(N, 3, 16, 16) -> a convolution to (N, 4, 16, 16), called ``conv``, then the rest under ``inner.after``."""
    torch.manual_seed(0)
    rest = nn.Sequential(*(part if isinstance(part, nn.Module) else Lambda(part) for part in after))
    module = nn.Sequential()
    module.add_module("conv", nn.Conv2d(3, 4, 3, padding=1))
    module.add_module("inner", nn.ModuleDict({"after": rest}))
    module.forward = lambda x: rest(module.conv(x))  # type: ignore[method-assign, operator]
    return from_module(module.eval(), (3, 16, 16))


def dims(graph: Graph) -> list[list[int | str]]:
    """Shapes of the input and of every output, open axes by their names."""
    values = (*graph.model.graph.inputs, *graph.model.graph.outputs)
    return [[d if isinstance(d, int) else str(d) for d in value.shape or ()] for value in values]


def test_without_open_axes_every_size_is_a_number() -> None:
    graph = capture(network(torch.relu), dynamic=(), batch=3)
    assert dims(graph) == [[3, 3, 16, 16], [3, 4, 16, 16]]
    assert graph.signature.inputs[0].axes == ()
    assert graph.signature.inputs[0].shape == (3, 3, 16, 16)


def test_the_batch_alone_stays_open_unless_more_is_asked() -> None:
    graph = capture(network(torch.relu))
    assert dims(graph) == [["batch", 3, 16, 16], ["batch", 4, 16, 16]]
    assert [(axis.name, axis.index, axis.minimum) for axis in graph.signature.inputs[0].axes] == [("batch", 0, 1)]


def test_open_axes_carry_their_names_at_input_and_output() -> None:
    graph = capture(network(torch.relu), dynamic=ALL_AXES)
    assert dims(graph) == [["batch", 3, "height", "width"], ["batch", 4, "height", "width"]]
    assert [(axis.name, axis.index) for axis in graph.signature.inputs[0].axes] == [
        ("batch", 0),
        ("height", 2),
        ("width", 3),
    ]


def test_one_of_height_and_width_may_stay_open_alone() -> None:
    graph = capture(network(torch.relu), dynamic=("width",), batch=2)
    assert dims(graph) == [[2, 3, 16, "width"], [2, 4, 16, "width"]]
    assert [axis.name for axis in graph.signature.inputs[0].axes] == ["width"]


def test_the_order_in_which_axes_are_asked_does_not_matter() -> None:
    graph = capture(network(torch.relu), dynamic=("width", "batch"))
    assert [axis.name for axis in graph.signature.inputs[0].axes] == ["batch", "width"]
    assert dims(graph)[0] == ["batch", 3, 16, "width"]


def test_an_unknown_axis_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown dynamic axis 'depth'") as caught:
        capture(network(torch.relu), dynamic=("batch", "depth"))
    assert caught.value.hint == "Known are batch, height, width."


def test_height_and_width_of_something_that_is_no_image_are_refused() -> None:
    model = from_module(nn.Linear(4, 3), (4,))
    assert dims(capture(model)) == [["batch", 4], ["batch", 3]]
    with pytest.raises(UsageError, match=r"\(C, H, W\) input only"):
        capture(model, dynamic=("batch", "height"))


def test_a_batch_written_into_the_code_is_refused() -> None:
    with pytest.raises(CaptureError, match="the network fixes batch to the example's size") as caught:
        capture(network(lambda x: x.view(2, -1)))
    assert "view(x.size(0), -1)" in caught.value.hint


def test_the_same_code_is_captured_where_the_batch_is_fixed() -> None:
    assert dims(capture(network(lambda x: x.view(2, -1)), dynamic=(), batch=2)) == [[2, 3, 16, 16], [2, 1024]]


def test_a_batch_taken_from_the_input_stays_open() -> None:
    assert dims(capture(network(lambda x: x.view(x.size(0), -1))))[1] == ["batch", 1024]


@pytest.mark.parametrize(
    "branch",
    [
        pytest.param(lambda x: x if x.sum() > 0 else -x, id="if"),
        pytest.param(lambda x: x * int(x.max().item()), id="item"),
        pytest.param(lambda x: x[: int(x.argmax())], id="slice"),
    ],
)
def test_control_flow_on_values_names_the_module(branch: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises(CaptureError, match=r"can't trace module inner\.after\.1") as caught:
        capture(network(torch.relu, branch))
    assert caught.value.module_path == "inner.after.1"
    assert "--debug" in caught.value.hint


def test_an_operator_that_onnx_lacks_is_named() -> None:
    with pytest.raises(CaptureError, match=r"can't translate .*: aten\._linalg_svd\.default has no ONNX form"):
        capture(network(lambda x: torch.linalg.svd(x)[1]))


def test_an_operator_that_onnx_lacks_is_looked_for_in_its_own_module() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(network(torch.relu, lambda x: torch.linalg.svd(x)[1]))
    assert caught.value.module_path == "inner.after.1"
    assert caught.value.message == (
        "PyTorch's exporter can't translate module inner.after.1: aten._linalg_svd.default has no ONNX form"
    )


def test_an_lstm_with_projections_is_refused() -> None:
    """PyTorch's exporter would write an LSTM without them, which no runtime takes."""

    class Reader(nn.Module):
        def __init__(self, proj_size: int) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 8, batch_first=True, proj_size=proj_size)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0].mean(1)

    with pytest.raises(CaptureError, match="module lstm is an LSTM with proj_size=4") as caught:
        capture(from_module(Reader(4), (5, 3)))
    assert caught.value.module_path == "lstm"
    capture(from_module(Reader(0), (5, 3)))


def test_an_input_that_does_not_fit_names_the_layer() -> None:
    with pytest.raises(CaptureError, match="to have 5 channels, but got 4") as caught:
        capture(network(nn.Conv2d(5, 4, 3)))
    assert caught.value.module_path == "inner.after.0"


@pytest.mark.parametrize("axes", [ALL_AXES, ("height",)], ids=["all", "height"])
@pytest.mark.parametrize("pool", [nn.AvgPool2d(16), nn.MaxPool2d((16, 16))], ids=str)
def test_a_pool_as_large_as_its_input_is_refused_where_sizes_are_open(pool: nn.Module, axes: tuple[str, ...]) -> None:
    sizes = " and ".join(name for name in axes if name != "batch")
    with pytest.raises(CaptureError, match=f"inner.after.1 pools with .*, so {sizes} can't be dynamic") as caught:
        capture(network(torch.relu, pool), dynamic=axes)
    assert caught.value.module_path == "inner.after.1"
    assert "--dynamic batch" in caught.value.hint, "the way out without touching the network"
    assert "nn.AdaptiveAvgPool2d(1)" in caught.value.hint, "the way out without fixing the size"
    assert dims(capture(network(torch.relu, pool)))[1] == ["batch", 4, 1, 1]


def whole_pools(x: torch.Tensor) -> list[torch.Tensor]:
    """Pools of computed sizes, and those of one whole axis."""
    return [
        F.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3))),
        F.avg_pool2d(x, kernel_size=x.shape[2:], ceil_mode=True),
        F.max_pool2d(x, x.size()[2:]),
        nn.AvgPool2d(x.shape[2:])(x),  # type: ignore[arg-type]
        nn.MaxPool2d(x.shape[2:])(x),
        nn.AdaptiveAvgPool2d((None, 1))(x),
        nn.AdaptiveMaxPool2d((1, None))(x),
        F.adaptive_avg_pool2d(x, (x.size(2), 1)),
    ]


@pytest.mark.parametrize("axes", [ALL_AXES, ("batch", "width")], ids=str)
def test_pools_of_computed_size_follow_open_sizes(axes: tuple[str, ...], tmp_path: Path) -> None:
    module = network(whole_pools)
    file = onnx_file.write(capture(module, dynamic=axes), tmp_path / "a.onnx")
    for width in (16, 20):
        image = torch.randn(2, 3, 16, width)
        with torch.no_grad():
            expected = module.module(image)
        found = PlainSession(file.path, 1).run({"input": image.numpy()})
        for array, tensor in zip(found.values(), expected, strict=True):
            np.testing.assert_allclose(array, tensor.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.avg_pool2d(x, x.size()[2:], divisor_override=1),
        lambda x: F.max_pool2d(x, x.size()[2:], return_indices=True)[0],
    ],
    ids=["sum", "indices"],
)
def test_other_pools_of_computed_size_are_refused_where_sizes_are_open(pool: Any) -> None:
    with pytest.raises(CaptureError, match="fixes height and width"):
        capture(network(torch.relu, pool), dynamic=ALL_AXES)


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)], ids=str)
def test_other_pools_are_captured_with_open_sizes(pool: nn.Module) -> None:
    assert dims(capture(network(pool), dynamic=ALL_AXES))[0] == ["batch", 3, "height", "width"]


@pytest.mark.parametrize("size", [4, (1, 4)])
def test_an_adaptive_pool_to_a_size_is_refused_where_sizes_are_open(size: Any) -> None:
    with pytest.raises(CaptureError, match=r"inner.after.1 pools adaptively to .* can't be dynamic") as caught:
        capture(network(torch.relu, nn.AdaptiveAvgPool2d(size)), dynamic=ALL_AXES)
    assert caught.value.module_path == "inner.after.1"
    assert "x.mean(3, keepdim=True)" in caught.value.hint


@pytest.mark.parametrize("opset", [18, 19, 20, 21, 22, 23])
def test_the_opset_is_the_one_that_was_asked(loaded: Callable[[str], LoadedModel], opset: int) -> None:
    graph = capture(loaded("toy"), opset=opset)
    assert graph.opset == graph.model.opset_imports[""] == opset


@pytest.mark.parametrize("opset", [17, 99])
def test_an_opset_that_can_not_be_had_is_refused(loaded: Callable[[str], LoadedModel], opset: int) -> None:
    with pytest.raises(CaptureError, match=rf"opset {opset} was requested, but PyTorch's exporter wrote \d+") as caught:
        capture(loaded("toy"), opset=opset)
    assert "18 to 23" in caught.value.hint


@pytest.mark.parametrize(
    ("function", "names"),
    [
        pytest.param(lambda x: x, ("output",), id="tensor"),
        pytest.param(lambda x: (x + 1,), ("output_0",), id="tuple of one"),
        pytest.param(lambda x: (x + 1, x * 2), ("output_0", "output_1"), id="tuple"),
        pytest.param(lambda x: [x + 1, x * 2], ("output_0", "output_1"), id="list"),
        pytest.param(lambda x: {"logits": x, "aux head": x * 2}, ("output_logits", "output_aux_head"), id="dict"),
        pytest.param(lambda x: {"a": (x, x + 1), "b": x * 2}, ("output_a_0", "output_a_1", "output_b"), id="nested"),
    ],
)
def test_outputs_are_named_after_their_place(function: Callable[[torch.Tensor], Any], names: tuple[str, ...]) -> None:
    graph = capture(network(function))
    assert graph.signature.output_names == names
    assert tuple(value.name for value in graph.model.graph.outputs) == names


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: (None, None), id="None"),
        pytest.param(lambda x: (x, 3), id="int"),
        pytest.param(lambda x: (x, x.size(0)), id="size"),
        pytest.param(lambda x: {"logits": x, "name": "cat"}, id="str"),
        pytest.param(lambda x: None, id="nothing"),
        pytest.param(lambda x: (), id="empty"),
    ],
)
def test_what_is_no_tensor_is_no_output(function: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises(CaptureError, match="returns something that isn't a tensor"):
        capture(network(function))


def test_none_beside_tensors_is_left_out() -> None:
    """As networks with auxiliary heads return it in eval mode."""
    graph = capture(network(lambda x: {"logits": x, "aux": None, "features": (None, x + 1)}))
    assert graph.signature.output_names == ("output_logits", "output_features_1")


def test_a_tensor_that_is_returned_twice_is_refused_in_words() -> None:
    with pytest.raises(CaptureError, match="one tensor twice"):
        capture(network(lambda x: (x, x)))


def test_a_network_that_returns_its_input_is_refused_in_words() -> None:
    with pytest.raises(CaptureError, match="or its input, but"):
        capture(from_module(nn.Identity(), (3, 8, 8)))


def test_the_module_is_afterwards_as_it_was(fresh: Callable[[str], LoadedModel]) -> None:
    model = fresh("toy")
    for index, submodule in enumerate(model.module.modules()):
        submodule.training = index % 2 == 0
    modes = [m.training for m in model.module.modules()]
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    grads = [p.requires_grad for p in model.module.parameters()]
    capture(model, dynamic=ALL_AXES)
    after = model.module.state_dict()
    assert [m.training for m in model.module.modules()] == modes
    assert [p.requires_grad for p in model.module.parameters()] == grads
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_modes_come_back_after_an_error_too(fresh: Callable[[str], LoadedModel]) -> None:
    model = network(lambda x: x if x.sum() > 0 else -x)
    model.module.train()
    with pytest.raises(CaptureError):
        capture(model)
    assert all(m.training for m in model.module.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def test_a_network_in_training_mode_is_captured_as_it_evaluates() -> None:
    model = network(nn.BatchNorm2d(4), nn.Dropout(0.5))
    model.module.train()
    assert not {node.op_type for node in capture(model).model.graph.all_nodes()} & {"Dropout", "RandomUniformLike"}


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_printed_and_loggers_keep_their_levels(capfd: pytest.CaptureFixture[str], fails: bool) -> None:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")]
    for index, logger in enumerate(loggers):
        logger.setLevel(logging.DEBUG if index % 2 else logging.NOTSET)
    levels = [logger.level for logger in loggers]
    model = network(lambda x: torch.linalg.svd(x)[1] if fails else x + 1)
    try:
        capture(model)
    except CaptureError:
        assert fails
    assert capfd.readouterr() == ("", "")
    assert [logger.level for logger in loggers] == levels
    for logger in loggers:
        logger.setLevel(logging.NOTSET)


def test_every_node_says_which_module_it_came_from(captured: Callable[[str], Graph]) -> None:
    nodes = list(captured("cbam_resnet8").model.graph.all_nodes())
    paths = {node.op_type: node.metadata_props.get(MODULE_KEY, "") for node in nodes}
    assert paths["Sigmoid"] == "layer3.0.attention.SpatialGate.sigmoid"
    convolutions = [node.metadata_props[MODULE_KEY] for node in nodes if node.op_type == "Conv"]
    assert convolutions[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert len(convolutions) == 9 + 3 * 5, "each of three blocks runs fc1 and fc2 twice and one spatial convolution"


def test_nothing_of_this_machine_stands_in_the_graph(captured: Callable[[str], Graph]) -> None:
    serialized = ir.to_proto(captured("cbam_resnet8").model).SerializeToString()
    telltale = [Path(__file__).parents[2], Path(torch.__file__).parent, Path(sys.prefix), Path.home(), Path.cwd()]
    for path in telltale:
        assert len(path.parts) < 2 or str(path).encode() not in serialized
    assert not re.search(rb"\.py\b|site-packages|Traceback|File \"", serialized)


def test_the_graph_is_valid_and_knows_its_parent(
    captured: Callable[[str], Graph], loaded: Callable[[str], LoadedModel]
) -> None:
    graph = captured("toy")
    onnx.checker.check_model(ir.to_proto(graph.model), full_check=True)
    assert graph.parent_sha256 == loaded("toy").sha256
    assert graph.steps == ()


def test_a_capture_leaves_no_traces_in_torch() -> None:
    """Torch keeps the source text of every module that it generates, and C++ holds the sizes of every trace."""
    model = network(torch.relu)

    def left() -> tuple[int, int]:
        capture(model)
        gc.collect()
        filled = [thing for thing in gc.get_objects() if isinstance(thing, ShapeEnv) and vars(thing)]
        return len(filled), len(_loader.eval_cache)

    assert left() == left()
