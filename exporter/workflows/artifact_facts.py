"""What an artifact's metadata says about its network: an ONNX file's own, an engine's through the file beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from attn_export.exporter.artifacts import Normalization, Postprocessing, Preprocessing
from attn_export.exporter.deployment.manifest import ShortVerdict
from attn_export.exporter.errors import InputError
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.report import Report
from attn_export.exporter.system.files import sha256_of

PREFIX = "attn_export."
T = TypeVar("T")


@dataclass(frozen=True)
class ArtifactFacts:
    """What is known about an artifact's network.

    Attributes:
        source_sha256: of the checkpoint; empty if unknown.
        class_names, normalization, preprocessing, postprocessing: None if unknown or none.
    """

    source_sha256: str = ""
    class_names: tuple[str, ...] | None = None
    normalization: Normalization | None = None
    preprocessing: Preprocessing | None = None
    postprocessing: Postprocessing | None = None
    verdict: ShortVerdict | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """Where it comes from, in words."""
        lines = ["written by attn-export"]
        if self.source_sha256:
            lines.append(f"checkpoint: sha256 {self.source_sha256}")
        if self.verdict is not None:
            agrees = "agrees" if self.verdict.agrees else "disagrees"
            lines.append(f"verdict: {agrees} with PyTorch in float64, error ratio {self.verdict.ratio:.2g}")
        if self.normalization is not None:
            lines.append(f"input: (pixels / 255 - {self.normalization.mean}) / {self.normalization.std}")
        return tuple(lines)


def facts_of(artifact: Artifact) -> ArtifactFacts:
    """The facts about an artifact; those of an engine are in the ONNX file that it was built from.

    Raises:
        InputError: the metadata is damaged.
    """
    properties, source = _properties(artifact)

    def read(key: str, kind: type[T]) -> T | None:
        text = properties.get(f"{PREFIX}{key}")
        try:
            return None if text is None else msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError as error:
            raise InputError(
                f"the metadata of {source} is damaged: {error}", hint="Export it again with this version."
            ) from error

    return ArtifactFacts(
        source_sha256=properties.get(f"{PREFIX}source_sha256", ""),
        class_names=read("class_names", tuple[str, ...]),
        normalization=read("normalization", Normalization),
        preprocessing=read("preprocessing", Preprocessing),
        postprocessing=read("postprocessing", Postprocessing),
        verdict=read("validation", ShortVerdict),
    )


def class_names_of(artifact: Artifact, facts: ArtifactFacts, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The names of the classes: those that are given, or those in the metadata.

    Raises:
        InputError: the artifact returns no scores of so many classes.
    """
    if labels is None:
        return facts.class_names
    sizes: set[object] = {tensor.dims[-1] for tensor in artifact.outputs if tensor.dims}
    if facts.postprocessing is not None and facts.postprocessing.top:  # they are outputs of top classes
        sizes = {len(facts.class_names)} if facts.class_names else set()
    if sizes and all(isinstance(size, int) for size in sizes) and len(labels) not in sizes:
        raise InputError(
            f"{len(labels)} classes are named, and {artifact.path} knows {', '.join(map(str, sizes))}",
            hint="Give a file with one name for each output of the network.",
        )
    return labels


def _properties(artifact: Artifact) -> tuple[Mapping[str, Any], Path]:
    from attn_export.exporter.graph.read import parse

    if artifact.parsed is not None:
        return artifact.parsed.model.metadata_props, artifact.path
    assert artifact.sidecar is not None
    source = artifact.path.parent / Path(artifact.sidecar.onnx.path).name
    if source.is_file() and sha256_of(source) == artifact.sidecar.onnx.sha256:
        return parse(source).model.metadata_props, source
    return {}, artifact.path


def is_measured(artifact: Artifact, report: Report) -> bool:
    """Whether a report is about this very file."""
    digests = {Path(one.path).name: one.sha256 for one in report.artifacts}
    return digests.get(artifact.path.name) == sha256_of(artifact.path)


def timings_of(artifact: Artifact, report: Report | None) -> tuple[Timing, ...]:
    """The latencies of an artifact in a report, of the fastest device.

    Raises:
        InputError: the report is about other files.
    """
    if report is None:
        return ()
    name = artifact.path.name
    if not is_measured(artifact, report):
        listed = ", ".join(Path(one.path).name for one in report.artifacts) or "none"
        raise InputError(
            f"the latencies are of other files ({listed}) than {artifact.path}",
            hint=f"Time this one: attn-export bench {name} --batch 1,2,4,8 --report latencies.json",
        )
    own = [timing for timing in report.latency.timings if timing.artifact == name]
    devices = sorted({timing.device for timing in own}, reverse=True)  # cuda before cpu
    return tuple(timing for timing in own if timing.device == devices[0])
