"""The arithmetic of a module: its weights don't change, every operator receives them converted."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from attn_export.exporter.records.arrays import Array, Arrays

# Up, down, and twice not at all: always moving a weight changes it more than rounding does.
DIRECTIONS = np.array([1, -1, 0, 0], np.float32)
# Measured for sums of 8x8 to 224x224 equal numbers in ONNX Runtime; see docs/validation.md.
PIXELS_PER_ROUNDING = 65
# Subtract a mean and divide by a spread; they return both besides their result.
NORMALIZATIONS = frozenset({"native_batch_norm", "native_group_norm", "native_layer_norm"})


def in_float64(arrays: Arrays) -> Arrays:
    """Inputs in double precision; integers and booleans as they are."""
    return {name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in arrays.items()}


@contextmanager
def in_double() -> Iterator[None]:
    """Inside, every function gets its float32 arguments in double precision.

    A module whose input is double then computes in double throughout, though its weights stay as they are: each is
    converted when it is used, and the copy is gone after that. A second set of weights would double the memory. Tensors
    that ``forward`` makes are double from the start. Weights show double as their type, and a conversion to float32 is
    one to double: layers that compare types (`nn.LSTM`) or convert to a weight's type neither refuse nor round.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _DoubleFunctions(), _DoubleOperators():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_default_dtype(default)


class _DoubleFunctions(TorchFunctionMode):
    """Functions called in Python: some compare the types of their arguments before any operator runs."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name == "__get__":  # an attribute such as shape or dtype
            found = function(*args, **(kwargs or {}))
            return torch.float64 if found is torch.float32 else found
        if name == "float":
            function = torch.Tensor.double
        return function(*_doubled(args, name), **_doubled(kwargs or {}))


class _DoubleOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operators called inside a function."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operator(*_doubled(args, operator.overloadpacket.__name__), **_doubled(kwargs or {}))


def _doubled(tree: Any, function: str = "") -> Any:
    """The arguments in double precision, except the one that the function writes to."""
    if tree and (function == "__setitem__" or (function.endswith("_") and not function.endswith("__"))):
        return (tree[0], *_doubled(tree[1:]))
    return _mapped(lambda tensor: tensor.double() if tensor.dtype == torch.float32 else tensor, tree, torch.float64)


def _mapped(
    function: Callable[[torch.Tensor], torch.Tensor], tree: Any, instead_of_float32: torch.dtype = torch.float32
) -> Any:
    """Apply a function to every tensor in arguments or results; torch's tree_map takes longer than many operators."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if tree is torch.float32:
        return instead_of_float32
    if isinstance(tree, dict):
        return {key: _mapped(function, value, instead_of_float32) for key, value in tree.items()}
    if type(tree) in (tuple, list):
        return type(tree)(_mapped(function, part, instead_of_float32) for part in tree)
    if isinstance(tree, tuple):  # a named one
        return pytree.tree_map_only(torch.Tensor, function, tree)
    return tree


# Places in the drawn numbers to start from, and the distance of two: without a common factor, so all are used.
PLACES, STRIDE = 4096, 1021


class Perturbation:
    """Numbers moved by at most one rounding each, up, down or not at all, so that all that follows is rounded anew.

    One run shows a network's own error as little as one number shows the width of the distribution that it was drawn
    from; a moved run is another draw. Rewriting a graph moves weights as well: BatchNorm is multiplied into
    convolutions.

    Args:
        module: whose parameters move. Its buffers don't: some networks write to theirs.
        dtype: whose roundings.
        draw: of another number, other numbers move.
        activations: whether the result of every operator moves as well. What is computed of an extreme image may be
            the same at every place of a map, and then hardly any rounding shows in a run: of zeros no pixel moves.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, draw: int, *, activations: bool = False) -> None:
        self._weights = {id(p) for p in module.parameters() if p.dtype == torch.float32 and p.sum().isfinite()}
        self._half_a_step = torch.finfo(dtype).eps / 2
        self._draw = draw
        self._activations = torch.Generator().manual_seed(draw) if activations else None
        self._noise, self._uses = torch.empty(0), 0

    def inputs(self, arrays: Arrays) -> Arrays:
        """Inputs (N, ...) with every float32 number perturbed; integers and booleans as they are."""
        return {name: self._pixels(array) if array.dtype == np.float32 else array for name, array in arrays.items()}

    def _pixels(self, array: Array) -> Array:
        moved: Array = self._moved(torch.from_numpy(np.ascontiguousarray(array)), array.shape).numpy()
        return moved

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A parameter perturbed, alike along its first axis; other tensors and infinite parameters unchanged."""
        if id(tensor) not in self._weights:
            return tensor
        return self._moved(tensor, tuple(tensor.shape[1:]) if tensor.ndim > 1 else tuple(tensor.shape))

    def result(self, tensor: torch.Tensor) -> torch.Tensor:
        """The result (N, C, H, W) of an operator with every element moved, by as much as a sum over H and W may be off.

        Sums of equal numbers are off by a rounding for `PIXELS_PER_ROUNDING` of them.
        """
        if self._activations is None or tensor.dtype != torch.float32:
            return tensor
        sums = math.prod(tensor.shape[2:]) / PIXELS_PER_ROUNDING * torch.finfo(torch.float32).eps / 2
        return torch.addcmul(tensor, tensor, self._directions(tensor), value=max(self._half_a_step, sums))

    def normalized(self, given: torch.Tensor, results: Any) -> Any:
        """The results of a normalization whose mean is off as a sum may be, alike for all elements with that mean."""
        if self._activations is None or not results[1].numel() or given.dtype != torch.float32:
            return results
        result, mean, inverse_spread = results[:3]
        roundings = given.numel() / mean.numel() / PIXELS_PER_ROUNDING * torch.finfo(torch.float32).eps
        shift = mean * inverse_spread * torch.empty_like(mean).uniform_(-1, 1, generator=self._activations) * roundings
        if mean.ndim == 1:  # of each channel
            shift = shift.reshape(1, -1, *[1] * (result.ndim - 2))
        elif mean.ndim == 2 and mean.shape[1] != 1:  # of each group
            shift = shift.repeat_interleave(result.shape[1] // mean.shape[1], 1).reshape(
                *result.shape[:2], *[1] * (result.ndim - 2)
            )
        return (result + shift.reshape(shift.shape + (1,) * (result.ndim - shift.ndim)), *results[1:])

    def _directions(self, like: torch.Tensor) -> torch.Tensor:
        """Numbers between -1 and 1, drawn once and taken from another place each time: drawing takes longer."""
        if len(self._noise) < like.numel() + PLACES:
            self._noise = torch.empty(like.numel() + PLACES).uniform_(-1, 1, generator=self._activations)
        self._uses += 1
        start = self._uses * STRIDE % PLACES
        return self._noise[start : start + like.numel()].view(like.shape)

    def _moved(self, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        draw = np.random.default_rng([self._draw, *shape])
        directions = torch.from_numpy(draw.choice(DIRECTIONS, shape))
        return torch.addcmul(tensor, tensor, directions, value=self._half_a_step)


@contextmanager
def rounded_to(dtype: torch.dtype, perturbation: Perturbation | None = None) -> Iterator[None]:
    """Every operator computes in float32 with its arguments and results rounded to a narrower type.

    So do runtimes that multiply in float16, accumulate in float32 and store float16; in float16 itself PyTorch takes 22
    times as long on a CPU. Values beyond the type's largest stay: an artifact computes those in float32, otherwise it
    returns infinities and disagrees. Float32 rounds nothing.
    """
    if dtype == torch.float32 and perturbation is None:
        yield
        return
    with _RoundingOperators(dtype, perturbation):
        yield


class _RoundingOperators(TorchDispatchMode):
    """Views aren't rounded: a write to a view has to reach its base tensor."""

    def __init__(self, dtype: torch.dtype, perturbation: Perturbation | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.perturbation = dtype, perturbation

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = self._moved((args, kwargs or {}))
        if operator.is_view:
            return operator(*args, **kwargs)
        name = operator.overloadpacket.__name__
        if name.endswith("_") and not name.endswith("__"):
            result = operator(args[0], *self._rounded(args[1:]), **self._rounded(kwargs))
            if isinstance(result, torch.Tensor):
                result.copy_(self._result(result))
            return result
        results = operator(*self._rounded(args), **self._rounded(kwargs))
        if self.perturbation is not None and name in NORMALIZATIONS:
            results = self.perturbation.normalized(args[0], results)
        return self._result(results)

    def _result(self, tree: Any) -> Any:
        return self._rounded(tree if self.perturbation is None else _mapped(self.perturbation.result, tree))

    def _moved(self, tree: Any) -> Any:
        return tree if self.perturbation is None else _mapped(self.perturbation.of, tree)

    def _rounded(self, tree: Any) -> Any:
        return tree if self.dtype == torch.float32 else _mapped(lambda tensor: _rounded(tensor, self.dtype), tree)


def _rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The nearest numbers of a narrower type, as float32; numbers beyond its largest and other types unchanged."""
    if tensor.dtype != torch.float32 or dtype == torch.float32:
        return tensor
    rounded = tensor.to(dtype).float()
    beyond = rounded.isinf()
    return torch.where(beyond, tensor, rounded) if beyond.any() else rounded
