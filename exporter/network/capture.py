"""Captures a network as an ONNX graph with PyTorch's exporter (``torch.export``, then ``torch.onnx``).

Failures raise an error that names the module; there is no fallback to another exporter, another opset or static axes.
"""

import inspect
import linecache
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.graph_module import _loader
from torch.utils import _pytree as pytree

from attn_export.exporter.artifacts import MODULE_KEY, Graph, Input, LoadedModel, Signature
from attn_export.exporter.errors import CaptureError, first_line
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.call import arguments, call
from attn_export.exporter.network.observation import evaluating
from attn_export.exporter.network.output_names import output_names
from attn_export.exporter.network.pools import IMAGE_RANK, PoolsAsReductions, module_of, refuse_fixed_pools, where
from attn_export.exporter.system.quiet import quiet

DEFAULT_OPSET = 20
# The exporter specializes a batch of one.
EXAMPLE_BATCH = 2
Tensors = Mapping[str, torch.Tensor]
_TORCH_SCOPES = "pkg.torch.onnx.name_scopes"


def capture(
    model: LoadedModel, *, dynamic: Sequence[str] = ("batch",), batch: int = 1, opset: int = DEFAULT_OPSET
) -> Graph:
    """Trace the network and translate it.

    Args:
        model: its inputs give all sizes but N.
        dynamic: see `axes.opened`; the axes have these names in the file.
        batch: N if it is static.
        opset: of the default domain.

    Returns:
        The unmodified graph. Each node has the path of its submodule in its metadata (`MODULE_KEY`).

    Raises:
        CaptureError: the module can't be traced or translated with these dynamic axes and this opset.
        UsageError: ``dynamic`` has an unknown name.
    """
    inputs = opened(model.inputs, dynamic, batch)
    if any(axis.index == 0 for taken in inputs for axis in taken.axes):
        inputs = tuple(taken.with_batch(EXAMPLE_BATCH) for taken in inputs)
    example = _examples(inputs)
    with evaluating(model.module), quiet(), _sources_forgotten():
        _refuse_projections(model.module)
        if model.architecture is None:
            _make_outputs_known(model.module, example)
        program = _trace(model.module, example, inputs)
        refuse_fixed_pools(program, _open_sizes(inputs))
        names = names_returned(program)
        if same := set(names) & set(example):
            raise CaptureError(
                f"an input and an output are both called {min(same)!r}, but in ONNX a name is that of one tensor",
                hint="Rename the parameter of forward.",
            )
        onnx_program = _translate(program, list(example), names, opset)
    ir_model = onnx_program.model
    got = ir_model.opset_imports.get("")
    if got != opset:
        raise CaptureError(
            f"opset {opset} was requested, but PyTorch's exporter wrote {got}",
            hint="torch 2.13 writes 18 to 23. docs/export.md lists the opsets of each runtime.",
        )
    if [value.name for value in (*ir_model.graph.inputs, *ir_model.graph.outputs)] != [*example, *names]:
        raise CaptureError(
            "the network returns one tensor twice, or its input, but in ONNX a tensor has only one name",
            hint="Return each tensor once.",
        )
    dims = [value.shape or () for value in ir_model.graph.inputs]
    symbols = [[str(own[axis.index]) for axis in taken.axes] for taken, own in zip(inputs, dims, strict=True)]
    inputs = tuple(_with_minima(program, *pair) for pair in zip(inputs, symbols, strict=True))
    onnx_program.rename_axes(
        {
            symbol: axis.name
            for taken, own in zip(inputs, symbols, strict=True)
            for axis, symbol in zip(taken.axes, own, strict=True)
        }
    )
    _keep_module_paths(ir_model)
    _forget_sizes(program)
    signature = Signature(inputs, names)
    return Graph(model=ir_model, signature=signature, parent_sha256=model.sha256, opset=opset)


def _forget_sizes(program: torch.export.ExportedProgram) -> None:
    """Empty the environment of the program's symbolic sizes, which is of no use after the translation.

    It refers to itself through sizes that C++ holds, where Python's garbage collector can't see them: torch would keep
    some 0.6 MiB of every export.
    """
    values = (node.meta.get("val") for node in program.graph.nodes)
    for mode in {value.fake_mode for value in values if isinstance(value, FakeTensor)}:
        if mode.shape_env is not None:
            vars(mode.shape_env).clear()


@contextmanager
def _sources_forgotten() -> Iterator[None]:
    """Within the context, forget the source text of modules that torch generates, 0.2 MiB an export."""
    known = set(_loader.eval_cache)
    try:
        yield
    finally:
        for name in _loader.eval_cache.keys() - known:
            del _loader.eval_cache[name]
            linecache.cache.pop(name, None)


def names_returned(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """A name for each tensor that the network returns; None beside them is left out.

    Raises:
        CaptureError: the network returns nothing, or other objects than tensors.
    """
    spec = program.call_spec.out_spec
    outputs = program.graph_signature.output_specs
    tensors = [i for i, o in enumerate(outputs) if type(o.arg).__name__ == "TensorArgument"]
    others = [o for i, o in enumerate(outputs) if i not in tensors and getattr(o.arg, "value", o) is not None]
    if spec is None or not tensors or others:
        values = [repr(getattr(other.arg, "value", other.arg))[:40] for other in others]
        raise CaptureError(
            f"the network returns something that isn't a tensor{': ' if values else ''}{', '.join(values)}",
            hint="Write a module around it whose forward returns tensors alone, and name that: --code FILE.py:CLASS.",
        )
    positions = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    leaves, _ = pytree.tree_flatten_with_path(positions)
    return output_names([leaves[i][0] for i in tensors])


def _examples(inputs: Sequence[Input]) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {taken.name: _example(taken, draw) for taken in inputs}


def _example(taken: Input, draw: torch.Generator) -> torch.Tensor:
    dtype = getattr(torch, taken.dtype)
    if dtype.is_floating_point:
        return torch.randn(taken.shape, generator=draw, dtype=dtype)
    return torch.full(taken.shape, int(taken.range[0]) if taken.range else 0, dtype=dtype)


def _trace(module: nn.Module, example: Tensors, inputs: Sequence[Input]) -> torch.export.ExportedProgram:
    args, kwargs = arguments(module, example)
    axes = {taken.name: {axis.index: torch.export.Dim.DYNAMIC for axis in taken.axes} or None for taken in inputs}
    shapes: Any = axes if kwargs else tuple(axes.values())
    if any(p.kind is p.VAR_POSITIONAL for p in list(inspect.signature(module.forward).parameters.values())[:1]):
        shapes = (shapes,)  # of forward(*inputs)
    try:
        with PoolsAsReductions():
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise _not_traceable(module, inputs, error) from error


def _open_sizes(inputs: Sequence[Input]) -> str:
    """The dynamic axes of images but the batch, in words."""
    images = [taken for taken in inputs if len(taken.shape) == IMAGE_RANK]
    return " and ".join(dict.fromkeys(axis.name for taken in images for axis in taken.axes if axis.index))


def _make_outputs_known(module: nn.Module, example: Tensors) -> None:
    """Run once: see `call`. What fails is reported by the trace."""
    with suppress(Exception):
        call(module, {name: tensor.numpy() for name, tensor in example.items()})


def _translate(
    program: torch.export.ExportedProgram, input_names: list[str], names: tuple[str, ...], opset: int
) -> torch.onnx.ONNXProgram:
    try:
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=opset,
            input_names=input_names,
            output_names=list(names),
        )
    except Exception as error:
        path = _path_of_fx_node(program, str(error))
        operator = re.search(r"target=torch\.ops\.([\w.]+)", str(error))
        reason = f"{operator[1]} has no ONNX form" if operator else first_line(error)
        raise CaptureError(
            f"PyTorch's exporter can't translate {where(path)}: {reason}",
            module_path=path,
            hint="Replace the operator by one that ONNX supports. --debug shows the exporter's report.",
        ) from error
    if exported is None:
        raise CaptureError("PyTorch's exporter returned nothing")
    return exported


def _not_traceable(module: nn.Module, inputs: Sequence[Input], error: Exception) -> CaptureError:
    """The error for a failure of ``torch.export``, with the submodule if known."""
    text = str(error)
    axes = {axis.name: axis.index for taken in inputs for axis in taken.axes}
    fixed = [name for name, index in axes.items() if re.search(rf"size\(\)\[{index}\]", text)]
    specialized = fixed and ("specialized" in text or "Specializations" in text or "specialized value" in text)
    path = _path_in_traceback(module, error)
    if specialized:
        sizes = ", ".join(str(taken.shape) for taken in inputs)
        return CaptureError(
            f"the network fixes {' and '.join(fixed)} to the example's size ({sizes})",
            module_path=path,
            hint="The code uses the size as a constant, for example view(2, -1) instead of view(x.size(0), -1). "
            "Change it, or keep the axis static: --static, or fewer names in --dynamic.",
        )
    code = re.search(r'File "([^"]+)", line (\d+), in forward', text)
    at = f" ({code[1]}, line {code[2]})" if code else ""
    return CaptureError(
        f"PyTorch's exporter can't trace {where(path)}{at}: {first_line(error)}",
        module_path=path,
        hint="Branches that depend on values, and calls outside of PyTorch, can't be traced: torch.where chooses "
        "between values. --debug shows the exporter's report.",
    )


def _refuse_projections(module: nn.Module) -> None:
    """Refuse an LSTM with projections: PyTorch's exporter leaves them out, because ONNX's LSTM has none.

    https://onnx.ai/onnx/operators/onnx__LSTM.html
    """
    for path, submodule in module.named_modules():
        if isinstance(submodule, nn.LSTM) and submodule.proj_size:
            raise CaptureError(
                f"{where(path)} is an LSTM with proj_size={submodule.proj_size}, which ONNX's LSTM lacks",
                module_path=path,
                hint="Use proj_size=0, or write the steps of the LSTM out in forward.",
            )


def _path_in_traceback(module: nn.Module, error: BaseException) -> str | None:
    """Path of the innermost submodule whose ``forward`` was running when ``error`` was raised."""
    paths = {submodule: name for name, submodule in module.named_modules()}
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and owner in paths:
            innermost = paths[owner]
    return innermost


def _path_of_fx_node(program: torch.export.ExportedProgram, message: str) -> str | None:
    """Path of the submodule of the node in the exporter's message."""
    named = re.search(r"node %(\w+)", message)
    for node in program.graph.nodes:
        # The exporter decomposes operators first: linalg_svd becomes _linalg_svd.
        if named is not None and node.name.strip("_") == named[1].strip("_"):
            return module_of(node)
    return None


def _with_minima(program: torch.export.ExportedProgram, taken: Input, symbols: Sequence[str]) -> Input:
    """The input with the minimum sizes that the trace supports; always one for a batch."""
    known = {str(symbol): max(1, int(bounds.lower)) for symbol, bounds in program.range_constraints.items()}
    axes = (
        replace(axis, minimum=known.get(symbol, 1) if axis.index else 1)
        for axis, symbol in zip(taken.axes, symbols, strict=True)
    )
    return replace(taken, axes=tuple(axes))


def _keep_module_paths(model: Any) -> None:
    """Keep only the module's path of the exporter's metadata; the rest names files of the user's machine."""
    for node in model.graph.all_nodes():
        scopes = re.findall(r"'([^']*)'", node.metadata_props.get(_TORCH_SCOPES, ""))
        node.metadata_props.clear()
        node.doc_string = None
        if len(scopes) > 1:
            node.metadata_props[MODULE_KEY] = scopes[-2]
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
