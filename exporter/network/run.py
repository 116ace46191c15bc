"""A network on a batch of images: its outputs, and what goes into its gates."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from attn_export.exporter.errors import AttnExportError, CaptureError, InputError, first_line
from attn_export.exporter.network.call import call
from attn_export.exporter.network.gates import GateRecorder
from attn_export.exporter.network.observation import observed
from attn_export.exporter.records.arrays import Array, Arrays


@dataclass(frozen=True)
class Result:
    """What one batch gave.

    Attributes:
        outputs: one array for each output, first axis N, or N times the number of runs; see `baseline`.
        gates: the inputs of the attention gates' sigmoids, (N, anything), in the order in which they were computed.
        gate_paths: the submodule of each.
    """

    outputs: tuple[Array, ...]
    gates: tuple[Array, ...]
    gate_paths: tuple[str, ...]

    def of(self, role: str) -> tuple[Array, ...]:
        """The tensors of a role, "output" or "gate"."""
        return self.gates if role == "gate" else self.outputs

    def rows(self, first: int, last: int) -> "Result":
        """Those of some of the images."""
        return Result(
            tuple(array[first:last] for array in self.outputs),
            tuple(array[first:last] for array in self.gates),
            self.gate_paths,
        )

    def without(self, left_out: Collection[int]) -> "Result":
        """Without some of the gates."""
        kept = [i for i in range(len(self.gates)) if i not in left_out]
        return Result(self.outputs, tuple(self.gates[i] for i in kept), tuple(self.gate_paths[i] for i in kept))


def joined(results: Sequence[Result]) -> Result:
    """Results of several batches as that of one.

    Raises:
        InputError: they aren't of one number of gates and outputs, or of one shape for each image.
    """
    try:
        return Result(
            tuple(np.concatenate(arrays) for arrays in zip(*(r.outputs for r in results), strict=True)),
            tuple(_stacked(arrays) for arrays in zip(*(r.gates for r in results), strict=True)),
            results[0].gate_paths,
        )
    except ValueError as error:
        raise InputError(
            "the network's outputs or operators depend on the values of the images",
            hint="Does it have data-dependent control flow? An exported graph is the same for all images.",
        ) from error


def _stacked(arrays: Sequence[Array]) -> Array:
    """One gate of several batches; without columns if its size differs between images."""
    if len({array.shape[1:] for array in arrays}) > 1:
        return np.empty((sum(map(len, arrays)), 0), arrays[0].dtype)
    return np.concatenate(arrays)


def run(module: nn.Module, arrays: Arrays) -> Result:
    """Run the network in the arithmetic that is set, see `arithmetic`.

    Raises:
        CaptureError: it can't run on this shape, or its output has no batch axis.
    """
    recorder, count = GateRecorder(module), len(next(iter(arrays.values())))
    try:
        with observed(module, recorder):
            results = call(module, arrays)
    except (AttnExportError, MemoryError):
        raise
    except Exception as error:  # code of others may raise anything
        reason = (
            first_line(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {first_line(error)}"
        )
        if graphs := re.search(r"HigherOrderOperator (\w+)", reason):
            reason = f"it calls {graphs[1]}"
        raise CaptureError(
            f"the network can't run on a batch of shape {_described(arrays)}: {reason}", hint=_way_out(error)
        ) from error
    tensors = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise CaptureError(
            f"the network returns no tensor: {type(results).__name__}", hint="Return the tensors that it computes."
        )
    _refuse_types(tensors)
    outputs = tuple(tensor.numpy() for tensor in tensors)
    for output in outputs:
        if output.ndim == 0 or len(output) != count:
            if count == 1:  # a squeeze() without an axis drops the batch axis of a single image, and only of that
                return run(module, {name: np.repeat(array, 2, axis=0) for name, array in arrays.items()}).rows(0, 1)
            raise CaptureError(
                f"the network returns a tensor of shape {output.shape} for a batch of {count}; its first axis "
                "must be the batch",
                hint="Return one result for each image; where a sequence comes first, as nn.LSTM gives it, "
                "output.transpose(0, 1).",
            )
    gates = recorder.gates
    rows = tuple(_rows(gate.logits, count) for gate in gates)
    return Result(outputs, rows, tuple(gate.module_path for gate in gates))


def _way_out(error: Exception) -> str:
    if "HigherOrderOperator" in str(error):  # no rule is registered for those
        return "Control flow such as torch.cond isn't exported: compute both branches, and choose with torch.where."
    if "re-export and specify dynamic_shapes" in str(error):
        return "The program is for one batch alone: --static --input with the sizes that it was exported with."
    if isinstance(error, RuntimeError):
        return (
            "Is it the shape and type that it was trained on (--input)? Where others work, height and width are "
            "fixed by a layer, for example a Linear after flatten: leave them out of --dynamic."
        )
    return (
        "forward gets a tensor for each --input, one where none is named. Around a network that takes a list or a "
        "dictionary of them, write a module whose forward takes tensors, and name that: --code FILE.py:CLASS."
    )


def _described(arrays: Arrays) -> str:
    """The shape, and of several inputs their names and types too."""
    if len(arrays) == 1:
        return str(next(iter(arrays.values())).shape)
    types = {name: "float32" if array.dtype.kind == "f" else str(array.dtype) for name, array in arrays.items()}
    return ", ".join(f"{name} {array.shape} {types[name]}" for name, array in arrays.items())


def _rows(logits: torch.Tensor, count: int) -> Array:
    """(N, anything): the first axis may also contain groups of channels. Without a batch axis there are no rows."""
    if logits.dtype == torch.bfloat16:
        raise CaptureError(
            "a gate of the network computes in bfloat16",
            hint="Take torch.autocast out of forward. The network is exported in float32; --precision bf16 makes the "
            "other precision of it.",
        )
    rows = logits.reshape(count, -1) if logits.numel() % count == 0 else logits.new_empty(count, 0)
    return rows.float().numpy() if rows.dtype is torch.bfloat16 else rows.numpy()


def _refuse_types(tensors: Sequence[torch.Tensor]) -> None:
    """What neither numpy nor ONNX Runtime's Python interface can hold, or ONNX has no operators for."""
    ways = {torch.bfloat16: "tensor.float()", torch.complex64: "torch.view_as_real(tensor)"}
    for tensor in tensors:
        dtype = torch.complex64 if tensor.is_complex() else tensor.dtype
        if dtype in ways:
            raise CaptureError(
                f"the network returns {str(tensor.dtype).removeprefix('torch.')} numbers, which no runtime returns",
                hint=f"Return {ways[dtype]} instead.",
            )
