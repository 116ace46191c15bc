"""Weights may have any name, also those that PyTorch's exporter gives to what is computed."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import onnx
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attn_export.exporter.artifacts import Graph, LoadedModel, only_input
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph.write import write
from attn_export.exporter.network.capture import capture
from tests.cleanup.spellings import difference, noise, run

SIDE = 8


class Named(nn.Module):
    """A network that normalizes inside, with an SE block, parts of a tensor, and buffers of given names."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 8)
        self.listed = list(names)
        for index, name in enumerate(self.listed):
            self.register_buffer(name, torch.full((1, 8, 1, 1), 0.1 * (index + 1)))

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.conv(image - image.mean((2, 3), keepdim=True)))
        for name in self.listed:
            x = x + getattr(self, name)
        x = x * torch.sigmoid(self.fc(x.mean((2, 3)))).view(x.size(0), -1, 1, 1)
        first, second = x.chunk(2, 1)
        x = torch.cat([first, second.amax((2, 3), keepdim=True).expand_as(first)], 1)
        return x.flatten(1).softmax(1)


def captured(network: nn.Module) -> Graph:
    return capture(
        LoadedModel(module=network.eval(), inputs=only_input((3, SIDE, SIDE)), sha256="0"), dynamic=("batch",)
    )


@cache
def names_made_up() -> tuple[str, ...]:
    """Every name of a value or node in a graph of the exporter's that a buffer may have."""
    network = Named()
    graph = captured(network).model.graph
    values = [value.name for node in graph for value in node.outputs]
    names = [*values, *(node.name for node in graph), *(value.name for value in (*graph.inputs, *graph.outputs))]
    return tuple(dict.fromkeys(n for n in names if n and n.isidentifier() and not hasattr(network, n)))


def check(names: Sequence[str], folder: Path) -> None:
    network = Named(names)
    graph, cleaned = clean_graph(captured(network))
    assert len(cleaned.blocks) == 1
    path = write(graph, folder / "model.onnx").path
    images = noise(3, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert difference(run(path, input=images)[0], expected) < 1e-5
    assert len({tensor.name for tensor in onnx.load(path).graph.initializer}) == len(onnx.load(path).graph.initializer)


def test_buffers_of_every_name_at_once(tmp_path: Path) -> None:
    names = names_made_up()
    assert {"mean", "val_0", "linear", "getitem", "sigmoid", "input", "output"} <= set(names)
    check(names, tmp_path)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_buffers_of_any_names(tmp_path: Path, data: st.DataObject) -> None:
    check(data.draw(st.lists(st.sampled_from(names_made_up()), min_size=1, max_size=3, unique=True)), tmp_path)
