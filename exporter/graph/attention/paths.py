"""The module that a node came from, by whatever the exporter that wrote the graph left behind."""

import ast
import re
from collections.abc import Iterable

import onnx_ir as ir

from attn_export.exporter.artifacts import MODULE_KEY
from attn_export.exporter.graph.facts import WHOLE

TORCH_SCOPES = "pkg.torch.onnx.name_scopes"


def module_path(node: ir.Node) -> str:
    """Of one node; empty where nothing tells it.

    Our own note comes first, then the scopes that PyTorch's exporter notes ("['', 'layer1', 'layer1.0', 'relu']"), then
    the names that its older one gave to nodes ("/layer1/layer1.0/relu/Relu"), then the names of weights
    ("layer1.0.conv1.weight").
    """
    if ours := node.metadata_props.get(MODULE_KEY):
        return ours
    if scopes := node.metadata_props.get(TORCH_SCOPES):
        try:
            listed = [str(scope) for scope in ast.literal_eval(scopes)]
        except (ValueError, SyntaxError):
            listed = []
        if len(listed) > 1 and listed[-2]:
            return listed[-2]
    if node.name and node.name.startswith("/"):
        return _of_slashes(node.name)
    for value in node.inputs[1:]:
        if value is not None and value.const_value is not None and re.search(r"\.(weight|bias)$", value.name or ""):
            return str(value.name).rpartition(".")[0]
    return ""


def _of_slashes(name: str) -> str:
    """``/layer1/layer1.0/relu/Relu`` -> ``layer1.0.relu``: a part that repeats the one before takes its place."""
    parts: list[str] = []
    for part in name.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def common_path(nodes: Iterable[ir.Node]) -> str:
    """The innermost module that all nodes belong to that belong to any. What computes shapes may belong elsewhere."""
    numeric = [node for node in nodes if node.outputs[0].dtype not in WHOLE]
    paths = [path.split(".") for path in dict.fromkeys(module_path(node) for node in numeric) if path]
    if not paths:
        return ""
    shared = []
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)
