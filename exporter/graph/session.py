"""ONNX Runtime without optimizations: every operator computes as the graph spells it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attn_export.exporter.errors import first_line
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.system.bounds import alarm, bounded_memory, bounded_time
from attn_export.exporter.system.files import total_bytes

if TYPE_CHECKING:
    import onnx_ir as ir

FATAL_ONLY = 4
SECONDS, SECONDS_PER_MIB = 60, 2  # of an inference; a large network may be slow on a small machine
# ONNX Runtime's names of types.
NUMPY_TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class SessionError(Exception):
    """ONNX Runtime rejects a graph or its inputs; the message is the first line of its own."""


class PlainSession:
    """A session on the CPU provider.

    ``graph`` is an ONNX file, or a graph as `read` returned it with the ``folder`` of its weights.

    Attributes:
        inputs: ONNX Runtime's type of each input, such as "tensor(float)", by name.
        outputs: names in the graph's order.
        seconds: that an inference may take.

    Raises:
        SessionError: ONNX Runtime rejects the graph.
    """

    def __init__(self, graph: "Path | ir.Model", threads: int, folder: Path | None = None) -> None:
        import onnxruntime

        weights = total_bytes(graph) if isinstance(graph, Path) else _weight_bytes(graph)
        self._threads = threads
        self.seconds = SECONDS + SECONDS_PER_MIB * (weights >> 20)
        self._options, self._late = onnxruntime.RunOptions(), ""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = FATAL_ONLY
        options.enable_cpu_mem_arena = False
        try:
            if isinstance(graph, Path):
                content: str | bytes = str(graph)
            else:
                folder = (folder or Path()).resolve()
                options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
                from attn_export.exporter.graph.read import skeleton  # devices run files without onnx

                content = skeleton(graph, folder)
            with bounded_memory():
                self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # RuntimeError, and a dozen classes of its own
            raise SessionError(first_line(error)) from error
        self.inputs = {str(value.name): str(value.type) for value in self._session.get_inputs()}
        self.outputs = [str(value.name) for value in self._session.get_outputs()]

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Within the context, what runs after so many seconds ends with a SessionError, and so do later runs.

        ONNX Runtime ends between two operators. One that goes on as long again ends the process, see `bounded_time`.
        """

        def stop() -> None:
            self._late = self._late or f"it had not finished after {seconds} s"
            self._options.terminate = True

        with alarm(seconds, stop), bounded_time(2 * seconds * self._threads):
            yield

    def run(self, feeds: Mapping[str, Array], bounded: bool = True) -> dict[str, Array]:
        """All outputs by name.

        Bounds take a tenth of a millisecond: a graph of one node whose whole graph ran within them needs none.

        Raises:
            SessionError: ONNX Runtime can't run the graph on these inputs, or not in half of the free memory, or not
                in `seconds`.
        """
        try:
            with ExitStack() as bounds:
                if bounded:
                    bounds.enter_context(bounded_memory())
                    bounds.enter_context(self.at_most(self.seconds))
                results = self._session.run(self.outputs, dict(feeds), self._options)
        except Exception as error:  # as above
            raise SessionError(self._late or first_line(error)) from error
        return {name: np.asarray(array) for name, array in zip(self.outputs, results, strict=True)}


def _weight_bytes(graph: "ir.Model") -> int:
    return sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value is not None)
