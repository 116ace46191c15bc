"""What a report shows besides results: the graphs, the gates on an image, and what attention costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.inventory.outline import Outline, Outlined
from attn_export.exporter.outlining import outline_of_file
from attn_export.exporter.progress import Progress
from attn_export.exporter.runtimes import Settings

if TYPE_CHECKING:
    from attn_export.exporter.attention_cost import AttentionCost
    from attn_export.exporter.validation.inputs import Images
    from attn_export.exporter.validation.looking import SampleImage, Seen

Value = TypeVar("Value")


@dataclass(frozen=True)
class Shown:
    """What there is to look at.

    Attributes:
        graphs: of every ONNX file.
        seen: the gates, None without a network.
        costs: what attention costs in each file, where that was measured.
    """

    graphs: tuple[Outlined, ...] = ()
    seen: "Seen | None" = None
    costs: tuple["AttentionCost", ...] = ()


def show(
    model: LoadedModel | None,
    files: Sequence[OnnxFile],
    settings: Settings,
    progress: Progress,
    *,
    before: Outline | None = None,
    images: "Images | None" = None,
    unseen: Mapping[str, str] | None = None,
) -> Shown:
    """Look at graphs and gates.

    Args:
        model: the network, None where only files are known.
        files: ONNX files made of it.
        settings: of ONNX Runtime.
        progress: hears of it.
        before: the graph as it was captured.
        images: of the user's, (N, C, H, W); the first is looked at.
        unseen: other artifacts by name, and why they can't be looked into.
    """
    with progress.stage("Drawing the graphs and the gates"):
        graphs = tuple(Outlined(file.name, before, outline_of_file(file.path, file.blocks)) for file in files)
        if model is None:
            return Shown(graphs)
        from attn_export.exporter.validation.looking import sample_image

        sample = sample_image(model.input_shape, images)
        return Shown(graphs, _gates(model, files, sample, settings, unseen or {}))


def _gates(
    model: LoadedModel, files: Sequence[OnnxFile], sample: "SampleImage", settings: Settings, unseen: Mapping[str, str]
) -> "Seen":
    """The gates of all files. Those of one name are looked at one after the other: what is seen goes by the name."""
    from attn_export.exporter.validation.looking import look

    turns: list[dict[str, OnnxFile]] = [{}]
    for file in files:
        turn = next((turn for turn in turns if file.path.name not in turn), None)
        if turn is None:
            turns.append(turn := {})
        turn[file.path.name] = file
    found = [look(model, tuple(turn.values()), sample, settings) for turn in turns]

    def named(told: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
        """What the turns tell by the files' names, by what they are called."""
        pairs = ((turn, *item) for turn, of_turn in zip(turns, told, strict=True) for item in of_turn.items())
        return {turn[name].name if name in turn else name: value for turn, name, value in pairs}

    gates = tuple(
        replace(
            gates[0],
            values=named(gate.values for gate in gates),
            differences=named(gate.differences for gate in gates),
        )
        for gates in zip(*(seen.gates for seen in found), strict=True)
    )
    return replace(found[0], gates=gates, unseen={**unseen, **named(seen.unseen for seen in found)})
