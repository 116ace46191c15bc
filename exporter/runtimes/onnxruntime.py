"""ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.runtimes.base import Array, Arrays, Runtime, Settings

PROVIDER = "CPUExecutionProvider"
ERRORS_ONLY = 3


class OnnxRuntime(Runtime):
    """An ONNX file on the CPU provider, with the library's default optimizations, whatever device the settings name.

    A provider that isn't the one asked for is an error: nothing runs elsewhere in silence.

    Args:
        path: the file.
        signature: of the network.
        settings: alike for all runtimes.
        extra_outputs: of the file, beyond the signature's.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, signature: Signature, settings: Settings, extra_outputs: Sequence[str] = ()) -> None:
        super().__init__(signature, settings)
        self.path = path
        self._fetched = [*signature.output_names, *extra_outputs]
        self._session: Any = None

    @property
    def provenance(self) -> str:
        """The library's version and the provider."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}, {PROVIDER}"

    def _options(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.settings.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        return options

    def _open(self) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(self.path), self._options(), providers=[PROVIDER])
        if self._session.get_providers() != [PROVIDER]:
            raise RuntimeUnavailableError(
                f"ONNX Runtime chose {self._session.get_providers()} instead of {PROVIDER}", runtime=self.name
            )

    def _close(self) -> None:
        self._session = None

    def upload(self, arrays: Arrays) -> Mapping[str, Array]:
        """Nothing: the CPU provider reads arrays."""
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run the session; the results are finished when it returns."""
        return dict(zip(self._fetched, self._session.run(self._fetched, inputs), strict=True))

    def download(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Nothing: they are arrays."""
        return dict(outputs)
