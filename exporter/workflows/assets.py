"""What a report shows besides results: the graphs, the gates on an image, and what attention costs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.cleanup.inspect import outline_of
from attn_export.exporter.graph.read import parsed
from attn_export.exporter.records.graphs import Outline, Outlined
from attn_export.exporter.records.results import ReportAssets
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.progress import Progress

if TYPE_CHECKING:
    from attn_export.exporter.network.images import Images


def show(
    model: LoadedModel | None,
    files: Sequence[OnnxFile],
    settings: Settings,
    progress: Progress,
    *,
    before: Outline | None = None,
    images: "Images | None" = None,
    unavailable: Mapping[str, str] | None = None,
) -> ReportAssets:
    """Look at graphs and gates.

    Args:
        model: the network, None where only files are known.
        files: ONNX files made of it, each of another name.
        settings: of ONNX Runtime.
        progress: receives stages and notes.
        before: the graph as it was captured.
        images: of the user's, (N, C, H, W); the first is looked at.
        unavailable: other artifacts by name, and why they can't be looked into.
    """
    with progress.stage("Drawing the graphs and the gates"):
        graphs = tuple(Outlined(file.name, before, outline_of(parsed(file).copy(), file.blocks)) for file in files)
        if model is None:
            return ReportAssets(graphs)
        from attn_export.exporter.validation.gate_activations import capture_gates, sample_image

        sample = sample_image(model.input_shape, images)
        return ReportAssets(graphs, capture_gates(model, files, sample, settings, unavailable).to_record())
