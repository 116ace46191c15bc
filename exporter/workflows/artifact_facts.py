"""What an artifact's metadata says about its network: an ONNX file's own, an engine's through the file beside it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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
    """What a file's metadata say about its network; None where they don't, InputError where they are damaged."""

    properties: Mapping[str, str] = field(default_factory=dict)
    source: Path | str = "the file"

    def _read(self, key: str, kind: type[T]) -> T | None:
        text = self.properties.get(f"{PREFIX}{key}")
        try:
            return None if text is None else msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError as error:
            raise InputError(
                f"the metadata of {self.source} is damaged: {error}", hint="Export it again with this version."
            ) from error

    @property
    def source_sha256(self) -> str:
        """Of the checkpoint; empty if unknown."""
        return self.properties.get(f"{PREFIX}source_sha256", "")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """In the order of the scores."""
        return self._read("class_names", tuple[str, ...])

    @property
    def normalization(self) -> Normalization | None:
        """Of the network's own input; also None where it makes no sense."""
        return _sensible(self._read("normalization", Normalization))

    @property
    def of_pixels(self) -> Normalization | None:
        """The normalization of the network's pixels, whoever applies it."""
        pixels = self.preprocessing
        return _sensible(pixels.normalization) if pixels else self.normalization

    @property
    def preprocessing(self) -> Preprocessing | None:
        """In the file."""
        return self._read("preprocessing", Preprocessing)

    @property
    def postprocessing(self) -> Postprocessing | None:
        """In the file."""
        return self._read("postprocessing", Postprocessing)

    @property
    def verdict(self) -> ShortVerdict | None:
        """Of the export."""
        return self._read("validation", ShortVerdict)

    @property
    def lines(self) -> tuple[str, ...]:
        """Where it comes from, in words."""
        lines = ["written by attn-export"]
        if self.source_sha256:
            lines.append(f"checkpoint: sha256 {self.source_sha256}")
        if (verdict := self.verdict) is not None:
            agrees = "agrees" if verdict.agrees else "disagrees"
            lines.append(f"verdict: {agrees} with PyTorch in float64, error ratio {verdict.ratio:.2g}")
        if (known := self.normalization) is not None:
            lines.append(f"input: (pixels / 255 - {known.mean}) / {known.std}")
        return tuple(lines)


def _sensible(found: Normalization | None) -> Normalization | None:
    if found is None or not len(found.mean) == len(found.std) > 0:
        return None
    return found if all(map(math.isfinite, (*found.mean, *found.std))) and min(found.std) > 0 else None


def class_names_of(artifact: Artifact, facts: ArtifactFacts, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The names that are given, or those in the metadata. Raises InputError: there aren't so many scores."""
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


def facts_of(artifact: Artifact) -> ArtifactFacts:
    """The facts about an artifact; those of an engine are in the ONNX file that it was built from."""
    from attn_export.exporter.graph.read import parse

    if artifact.parsed is not None:
        return ArtifactFacts(artifact.parsed.model.metadata_props, artifact.path)
    assert artifact.sidecar is not None
    source = artifact.path.parent / Path(artifact.sidecar.onnx.path).name
    if source.is_file() and sha256_of(source) == artifact.sidecar.onnx.sha256:
        return ArtifactFacts(parse(source).model.metadata_props, source)
    return ArtifactFacts()


def is_measured(artifact: Artifact, report: Report) -> bool:
    """Whether a report is about this very file."""
    digests = {Path(one.path).name: one.sha256 for one in report.artifacts}
    return digests.get(artifact.path.name) == sha256_of(artifact.path)


def timings_of(artifact: Artifact, report: Report | None) -> tuple[Timing, ...]:
    """An artifact's latencies in a report, of the fastest device. Raises InputError: it is about other files."""
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
