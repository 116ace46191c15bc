"""What the names in honest checkpoints stand for, made without torch's functions that take any size."""

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._weights_only_unpickler import _get_allowed_globals

from attn_export.exporter.checkpoint.inert import Inert, inert_class
from attn_export.exporter.checkpoint.pickles.arrays import MODULES, Array, DType, reconstructed
from attn_export.exporter.checkpoint.tensors import Views

ATOMS = (str, bytes, int, float, complex, type(None), torch.Tensor, torch.dtype, type, Inert)
MOST_IN_A_KEY = 1000


class Pairs(OrderedDict[Any, Any]):
    """A dictionary of any class. Attributes that a file gives it are dropped: one may be called ``items``."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        given = next((arg for arg in args if isinstance(arg, dict | list)), None)
        pairs = given.items() if isinstance(given, dict) else given or ()
        for key, value in pairs:
            if not is_key(key):
                raise pickle.UnpicklingError("it has a key that is no name or number")
            self[key] = value

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Called:
    """A function that a pickle may call; its attributes can't be changed."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        """Call it; what is made of something unknown is unknown."""
        return Inert() if any(isinstance(arg, Inert) for arg in args) else self.function(*args)


@dataclass(frozen=True, slots=True)
class Storage:
    """The bytes of tensors, and the type that their elements have unless a tensor says another."""

    content: torch.Tensor
    dtype: torch.dtype
    views: Views


def is_key(value: Any) -> bool:
    """Whether something may be a dictionary's key: hashing tuples in tuples may take forever or end the process."""
    waiting = [value]
    if type(value) is str:
        return True
    for _ in range(MOST_IN_A_KEY):
        if not waiting:
            return True
        found = waiting.pop()
        if isinstance(found, tuple | frozenset):
            waiting.extend(found)
        elif not isinstance(found, ATOMS):
            return False
    return False


def _tensor(storage: Storage, offset: int, sizes: Sequence[int], strides: Sequence[int], *_: Any) -> torch.Tensor:
    return storage.views.view(storage.content, storage.dtype, sizes, strides, offset)


def _typed(storage: Storage, offset: int, sizes: Sequence[int], strides: Sequence[int], *rest: Any) -> torch.Tensor:
    """A tensor that says its type, after whether it requires gradients and its hooks."""
    return storage.views.view(storage.content, rest[2], sizes, strides, offset)


def _parameter(tensor: Any, *_: Any) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise pickle.UnpicklingError("a parameter isn't a tensor")
    return torch.nn.Parameter(tensor, requires_grad=False)


def _of_another_class(function: Any, _: Any, args: Sequence[Any], *__: Any) -> Any:
    """A tensor of a subclass, as a plain one."""
    if not isinstance(function, Called) or not isinstance(args, list | tuple):
        raise pickle.UnpicklingError("a tensor is made by a function that isn't known")
    return function(*args)


def _without_data(_: Any, sizes: Sequence[int], *__: Any) -> torch.Tensor:
    """A tensor on the meta device; it takes no memory."""
    return torch.empty(_checked(sizes), device="meta")


def _sparse(_: Any, data: Sequence[Any]) -> torch.Tensor:
    """An empty sparse tensor: these can't be weights, and the error says so."""
    sizes = next((entry for entry in data[::-1] if isinstance(entry, tuple | list)), ())
    return torch.empty(_checked(sizes), layout=torch.sparse_coo)


def _quantized(storage: Storage, offset: int, sizes: Sequence[int], strides: Sequence[int], *_: Any) -> torch.Tensor:
    """A quantized tensor of these sizes, without its numbers: these can't be weights, and the error says so."""
    storage.views.view(storage.content, torch.uint8, sizes, strides, offset)
    return torch.quantize_per_tensor(torch.zeros(_checked(sizes)), 1.0, 0, torch.qint8)


def _checked(sizes: Sequence[int]) -> tuple[int, ...]:
    if not all(type(size) is int and size >= 0 for size in sizes) or math.prod(sizes) >= 2**62:
        raise ValueError("a tensor has a size that is none")
    return tuple(sizes)


def _bytes(text: Any, encoding: Any = "latin1") -> Any:
    """Bytes as protocol 2 writes them. Other codecs may take forever."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it has bytes in an unknown form")
    return text.encode(encoding)


def _no_bytes(*args: Any) -> bytes:
    """Protocols before 3 write empty bytes as ``bytes()``."""
    if args:
        raise pickle.UnpicklingError("it has bytes in an unknown form")
    return b""


def _byte_array(content: Any = b"", encoding: Any = "latin1") -> Any:
    return content if isinstance(content, bytes) else _bytes(content, encoding)


def plain_set(values: Any = ()) -> set[Any]:
    """A set of names and numbers."""
    if not isinstance(values, list | tuple | set) or not all(map(is_key, values)):
        raise pickle.UnpicklingError("it has a set of other things than names and numbers")
    return set(values)


def _sizes(values: Any = ()) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise pickle.UnpicklingError("it has sizes that are no numbers")
    return tuple(values)


def _of_compiled(module: Any = None, *_: Any) -> Any:
    """The module in a compiled one."""
    return module


def _storages() -> Mapping[str, torch.dtype]:
    """Classes of storages, by the type of their elements."""
    names = (
        "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble ComplexFloat QInt8 QUInt8 QInt32"
    ).split()
    types = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.complex128, torch.complex64, torch.qint8, torch.quint8, torch.qint32,
    )  # fmt: skip
    untyped = {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}
    return {**{f"torch.{name}Storage": dtype for name, dtype in zip(names, types, strict=True)}, **untyped}


REBUILT: Mapping[str, Callable[..., Any]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _typed,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "_rebuild_meta_tensor_no_storage": _without_data,
    "_rebuild_sparse_tensor": _sparse,
    "_rebuild_qtensor": _quantized,
}

HARMLESS: Mapping[str, Any] = {
    **{name: inert_class(name) for name in _get_allowed_globals()},  # of torch's own safe unpickler
    **dict.fromkeys(("collections.OrderedDict", "collections.Counter", "collections.defaultdict"), Pairs),
    **{f"torch._utils.{name}": Called(function) for name, function in REBUILT.items()},
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    **_storages(),
    **{f"{module}.multiarray._reconstruct": Called(reconstructed) for module in MODULES},
    "numpy.ndarray": Array,
    "numpy.dtype": DType,
    "torch._dynamo.eval_frame.OptimizedModule": _of_compiled,
    "torch._tensor._rebuild_from_type_v2": Called(_of_another_class),
    "torch.nn.parameter.Parameter": Called(_parameter),
    "torch.Size": Called(_sizes),
    "_codecs.encode": Called(_bytes),
    **{f"{module}.{name}": value for module in ("builtins", "__builtin__") for name, value in {
        "set": Called(plain_set), "bytes": Called(_no_bytes), "complex": complex, "bytearray": Called(_byte_array),
    }.items()},
}  # fmt: skip
