"""ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attn_export.exporter.artifacts import OnnxFile, Precision, Signature
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.graph.session import NUMPY_TYPES
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.base import Runtime, Settings

if TYPE_CHECKING:
    import onnx_ir as ir

PROVIDER = "CPUExecutionProvider"
ERRORS_ONLY = 3
# An optimizer of quantized graphs: the int8 kernels take int32 biases.
BIASES_ROUNDED = "WeightBiasQuantization"
BLOCKED_CHANNELS = "NchwcTransformer"


def crashing_optimization(file: OnnxFile) -> str:
    """The optimization that has to be left out, because ONNX Runtime would crash in it; empty for most files.

    float16 files with a Transpose before a MatMul: https://github.com/microsoft/onnxruntime/issues/28392
    """
    if file.precision is not Precision.FP16:
        return ""
    from attn_export.exporter.graph.read import parsed

    operators = {node.op_type for node in parsed(file).model.graph}
    return BLOCKED_CHANNELS if {"Transpose", "MatMul"} <= operators else ""


class OnnxRuntime(Runtime):
    """An ONNX file on the CPU provider with default optimizations; ``settings.device`` is ignored.

    A fallback to another provider is an error.

    Args:
        extra_outputs: intermediate tensors to return too; they may prevent fusions.
        only_extra: return these instead of the signature's outputs; what they don't need isn't run.
        graph: the file's graph, or one made from it, to run instead of the file; its weights are mapped from the file.
        without: an optimization of ONNX Runtime that is left out.
    """

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        signature: Signature,
        settings: Settings,
        extra_outputs: Sequence[str] = (),
        *,
        only_extra: bool = False,
        graph: "ir.Model | None" = None,
        without: str = "",
    ) -> None:
        super().__init__(signature, settings)
        self.path = path
        self.artifact = path.name
        self._extra = list(dict.fromkeys(name for name in extra_outputs if name not in signature.output_names))
        self._only_extra = only_extra
        self._graph, self._without = graph, [without] if without else []
        self._fetched = list(extra_outputs) if only_extra else [*signature.output_names, *self._extra]
        self._session: Any = None
        self._dtypes: dict[str, np.dtype[Any]] = {}

    @property
    def provenance(self) -> str:
        """The library's version, the provider, and what is left out of its optimizations."""
        import onnxruntime

        left_out = f", without {self._without[0]}" if self._without else ""
        return f"onnxruntime {onnxruntime.__version__}, {PROVIDER}{left_out}"

    @property
    def can_be_isolated(self) -> bool:
        """Whether it runs the unmodified file."""
        return self._graph is None and not self._without and self._fetched == list(self.signature.output_names)

    def _options(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.settings.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        return options

    def _open(self) -> None:
        import onnxruntime

        options = self._options()
        source, left_out = self._source(options), self._without
        self._session = onnxruntime.InferenceSession(
            source, options, providers=[PROVIDER], disabled_optimizers=left_out
        )
        if self._session.get_providers() != [PROVIDER]:
            raise RuntimeUnavailableError(f"ONNX Runtime chose {self._session.get_providers()} instead of {PROVIDER}")
        # Third-party files may take other types than the network; inputs are converted.
        self._dtypes = {entry.name: NUMPY_TYPES.get(entry.type, np.float32) for entry in self._session.get_inputs()}

    def _source(self, options: Any) -> str | bytes:
        """The file, or a serialized graph that refers to its weights."""
        if not self._extra and self._graph is None:
            return str(self.path)
        from attn_export.exporter.graph.read import skeleton

        model = self._graph if self._graph is not None and not self._extra else self._with_extra()
        folder = self.path.resolve().parent
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        return skeleton(model, folder)

    def _with_extra(self) -> "ir.Model":
        """The graph with the extra outputs."""
        from attn_export.exporter.graph.read import read

        model = read(self.path) if self._graph is None else self._graph.clone()
        computed = {value.name: value for node in model.graph for value in node.outputs}
        if self._only_extra:
            model.graph.outputs.clear()
        model.graph.outputs.extend(computed[name] for name in self._extra)
        return model

    def _close(self) -> None:
        self._session = None

    def upload(self, arrays: Arrays) -> Mapping[str, Array]:
        """Arrays in the file's input type."""
        return {name: np.ascontiguousarray(array, self._dtypes.get(name)) for name, array in arrays.items()}

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run the session; synchronous."""
        return dict(zip(self._fetched, self._session.run(self._fetched, inputs), strict=True))

    def download(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The results as arrays."""
        return dict(outputs)
