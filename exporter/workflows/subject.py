"""An artifact that is compared with its network."""

from dataclasses import dataclass
from typing import Any

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.results import Validated
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.validation.matching import Match


@dataclass(frozen=True)
class Subject:
    """An artifact under test; ``trust`` loads an engine that was changed after it was built."""

    artifact: Artifact
    match: Match
    settings: Settings
    trust: bool

    @property
    def file(self) -> OnnxFile:
        """The artifact as an ONNX file with the network's signature."""
        return self.artifact.as_file(self.match.signature)

    @property
    def is_engine(self) -> bool:
        """Whether TensorRT runs it."""
        return self.artifact.parsed is None

    def runtime(self) -> Runtime:
        """A runtime for the artifact, not opened yet. Raises RuntimeUnavailableError: the runtime isn't available."""
        artifact, signature = self.artifact, self.match.signature
        if self.is_engine:
            from attn_export.exporter.runtimes.tensorrt import TensorRT

            # The runtime knows an engine's dynamic axes from its profile.
            return TensorRT(artifact.path, signature, self.settings, trust=self.trust)
        if artifact.quantized_type.startswith("float"):
            # ONNX Runtime 1.32 drops the ReLU before a float8 QuantizeLinear, which is right for int8 only.
            from attn_export.exporter.runtimes.evaluator import Evaluator

            return Evaluator(artifact.path, signature, self.settings)
        return runtime_of_file(self.file, self.settings)

    def result(self, *notes: str, **findings: Any) -> Validated:
        """The result of a validation, with more notes than those of the match."""
        artifact, match = self.artifact, self.match
        return Validated(artifact.path, artifact, match.signature, (*match.notes, *notes), **findings)
