"""Gates in ONNX Runtime's form, before a quantization that includes them.

ONNX Runtime multiplies float32 maps faster with a gate that was resized to them, which its form of a graph does
(`cleanup/rules/resize_gate.py`). Its integer product broadcasts as fast, and reads less.
"""

import onnx_ir as ir

from attn_export.exporter.graph.facts import dims, is_op, made_by, only_user


def read_gates_directly(graph: ir.Graph) -> int:
    """Let products read gates of one value for each channel without a Resize before them, in place.

    Returns:
        The number of Resize nodes that are gone.
    """
    removed = 0
    for product in [node for node in graph if is_op(node, "Mul")]:
        for index, value in enumerate(product.inputs):
            resize = made_by(value, "Resize")
            gate = resize.inputs[0] if resize is not None else None
            if resize is None or gate is None or only_user(resize.outputs[0]) is not product:
                continue
            size = dims(gate)
            if size is not None and len(size) > 2 and all(one == 1 for one in size[2:]) and size[1] != 1:
                product.replace_input_with(index, gate)
                graph.remove(resize, safe=True)
                removed += 1
    return removed
