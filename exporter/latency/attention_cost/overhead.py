"""The overhead of ONNX Runtime's profiler for each kernel."""

from pathlib import Path
from statistics import median

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from attn_export.exporter.artifacts import Input, Signature
from attn_export.exporter.latency.attention_cost.profile import profile
from attn_export.exporter.runtimes.base import Settings

KERNELS, INFERENCES = 32, 50
SHAPE = (1, 1, 1, 1)
OPSET, IR_VERSION = 17, 9


def overhead_ms(settings: Settings, folder: Path) -> float:
    """The time that the profiler records for a kernel without work.

    It includes logging of shapes and thread statistics: one to several microseconds, depending on the number of
    threads, as long as many kernels of an attention block.

    The caller removes the files of the profile in ``folder``.

    Raises:
        RuntimeUnavailableError: see `profile`.
    """
    nodes = [helper.make_node("Flatten", [f"t{i}"], [f"t{i + 1}"], name=f"flatten{i}") for i in range(KERNELS)]
    source = helper.make_tensor_value_info("t0", TensorProto.FLOAT, SHAPE)
    result = helper.make_tensor_value_info(f"t{KERNELS}", TensorProto.FLOAT, (1, 1))
    graph = helper.make_graph(nodes, "idle", [source], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    signature = Signature((Input("t0", SHAPE),), (f"t{KERNELS}",))
    arrays = {"t0": np.zeros(SHAPE, np.float32)}
    kernels = profile(ir.from_proto(model), folder / "idle.onnx", signature, settings, arrays, INFERENCES, folder)
    return median(kernel.ms for kernel in kernels)
