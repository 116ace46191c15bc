"""What callers from Python pass as a network: live modules, and everything else that looks like one."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import Input, LoadedModel, only_input
from attn_export.exporter.checkpoint import state_dict
from attn_export.exporter.checkpoint.inputs import declared, left_out
from attn_export.exporter.errors import InputError, UsageError
from attn_export.models.registry import Architecture

# Classes around a network, and the attribute that holds it.
WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",  # of torch.compile
}


def from_module(
    module: nn.Module, inputs: Sequence[Input] | Sequence[int], architecture: Architecture | None = None
) -> LoadedModel:
    """A live float32 module without the wrappers of parallel and compiled training; its hash is that of its weights.

    ``inputs`` may be (C, H, W) of the only one; see `inputs.declared`.

    Raises:
        InputError: it is no module, or takes other inputs; see `network_of` and `inputs.declared`.
        NonFiniteWeightsError: weights are NaN or infinite.
        UsageError: weights aren't float32, or not on the CPU.
    """
    module, notes = network_of(module)
    weights = {
        name: tensor.detach() for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)
    }
    for name, tensor in weights.items():
        if tensor.device.type not in ("cpu", "meta"):
            raise UsageError(f"the module's {name} is on {tensor.device}", hint="Pass module.cpu().")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UsageError(
                f"the module's {name} is {state_dict.name_of_dtype(tensor)}; expected is float32",
                hint="Pass module.float(). Other precisions are made from the float32 network.",
            )
    state_dict.usable(weights, type(module).__name__)
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    found = declared(module, _as_inputs(inputs))
    return LoadedModel(
        module=module,
        inputs=found,
        sha256=digest.hexdigest(),
        architecture=architecture,
        notes=(*notes, *left_out(module, found)),
    )


def _as_inputs(given: Sequence[Input] | Sequence[int]) -> tuple[Input, ...]:
    inputs = tuple(taken for taken in given if isinstance(taken, Input))
    return inputs or only_input(tuple(size for size in given if isinstance(size, int)))


def network_of(given: Any) -> tuple[nn.Module, tuple[str, ...]]:
    """A live module without the wrappers of parallel, averaged and compiled training, and a note for each.

    Raises:
        InputError: it is no module, or one that PyTorch's exporter can't capture; the message says what it is.
    """
    if not isinstance(given, nn.Module) or isinstance(given, torch.jit.ScriptModule) or _is_of_program(given):
        raise refusal(given)
    notes = []
    while (name := type(given).__name__) in WRAPPERS and isinstance(
        inner := getattr(given, WRAPPERS[name], None), nn.Module
    ):
        notes.append(f"{name} was taken off: the {type(inner).__name__} in it is the network")
        given = inner
    _refuse_lazy(given)
    _refuse_scripted_parts(given)
    return given, tuple(notes)


def refusal(given: Any) -> InputError:
    """The error for something that is no live module: what it is, and what to pass instead."""
    described, hint = describe(given)
    return InputError(f"expected is a network, an nn.Module, and {described} was passed", hint=hint)


def describe(given: Any) -> tuple[str, str]:
    """What something is that was passed instead of a module, and what to pass."""
    module = "Pass the nn.Module itself: export(module, input_shape=(1, 3, 224, 224))."
    if isinstance(given, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return "a TorchScript module", (
            "PyTorch's exporter can't capture it. Pass the nn.Module that it was made of; or save it and pass "
            "load('model.pt', trust=True, input_shape=(3, 224, 224))."
        )
    if isinstance(given, torch.export.ExportedProgram) or _is_of_program(given):
        return "an exported program (torch.export)", (
            "Save it, torch.export.save(program, 'model.pt2'), and pass load('model.pt2')."
        )
    if isinstance(given, torch.Tensor):
        return f"a tensor of {tuple(given.shape)}", module
    if isinstance(given, Mapping):
        tensors = sum(isinstance(value, torch.Tensor) for value in given.values())
        if tensors:
            return f"a state dict of {tensors} tensors", (
                "Weights don't say what computes with them. Build the network and load them, "
                "module.load_state_dict(...), or save them and use load(path, arch=...)."
            )
        return f"a dictionary with {', '.join(map(repr, list(given)[:4])) or 'nothing'} in it", module
    if isinstance(given, type) and issubclass(given, nn.Module):
        return f"the class {given.__name__}", f"Pass an instance: {given.__name__}(...)."
    if isinstance(given, str | Path):
        return f"the path {str(given)!r}", "Read it first: load(path)."
    if (
        type(given).__module__.split(".")[0] in ("onnx", "onnx_ir", "onnxscript")
        or "ONNXProgram" in type(given).__name__
    ):
        return "an ONNX graph", "It is exported already: save it, then clean(path, out=...) cleans it."
    name = getattr(given, "__name__", None)
    return (f"the function {name}" if name else f"a {type(given).__name__}"), module


def _is_of_program(given: Any) -> bool:
    """Whether this is what ``ExportedProgram.module()`` returns, which has no eval mode."""
    return isinstance(given, torch.fx.GraphModule) and "eval" in vars(given)


def shape_of(given: Any) -> tuple[int, ...]:
    """(N, C, H, W), or another shape of a batch, as a caller from Python passes it: also an example of the input.

    Raises:
        InputError: it is something else; the message says what.
    """
    hint = "Pass the shape of the one input: input_shape=(1, 3, 224, 224)."
    if isinstance(given, torch.Tensor):
        return tuple(given.shape)
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"input_shape is {given!r}", hint=hint)
    sizes = tuple(given)
    if sizes and all(isinstance(size, Iterable) for size in sizes):
        raise InputError(
            f"input_shape holds {len(sizes)} shapes, and it is for networks with one input",
            hint="Name each: inputs=[Input('image', (1, 3, 224, 224)), Input('meta', (1, 4))].",
        )
    if len(sizes) < 2 or not all(isinstance(size, Integral) and not isinstance(size, bool) for size in sizes):
        raise InputError(f"input_shape is {sizes!r}", hint=hint)
    if min(sizes) < 1:
        raise InputError(f"input_shape is {sizes!r}: a size is smaller than 1", hint=hint)
    return tuple(int(size) for size in sizes)


def wanted_a_path(given: Any) -> InputError:
    """The error for something that was passed instead of a path."""
    if isinstance(given, nn.Module):
        return InputError(
            f"expected is the path of a checkpoint, and a {type(given).__name__} was passed",
            hint="A live module needs no file: export(module, input_shape=(1, 3, 224, 224)).",
        )
    described, hint = describe(given)
    return InputError(f"expected is the path of a checkpoint, and {described} was passed", hint=hint)


def _refuse_lazy(module: nn.Module) -> None:
    """Weights whose shapes the first input decides aren't there yet."""
    for name, parameter in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(parameter):
            raise InputError(
                f"the module's {name} isn't initialized: a lazy layer gets its shape from the first input",
                hint="Run the network once on an input of its size, and load its weights.",
            )


def _refuse_scripted_parts(module: nn.Module) -> None:
    """What TorchScript's interpreter runs can't be observed, and PyTorch's exporter doesn't take it."""
    for path, submodule in module.named_modules():
        if isinstance(submodule, torch.jit.ScriptModule):
            raise InputError(
                f"the network's submodule {path} is a TorchScript module, which PyTorch's exporter can't capture",
                hint="Build it from its class, and load its weights: load_state_dict(scripted.state_dict()).",
            )
