"""The arguments of a program's calls as values."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from attn_export.exporter.checkpoint.exported.network import Ref
from attn_export.exporter.checkpoint.exported.schema import Argument, entry_of
from attn_export.exporter.checkpoint.exported.unsafe import Unsafe

# The numbers of torch's enumerations in the format.
DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 9: torch.complex32, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
    28: torch.uint16, 34: torch.uint32, 35: torch.uint64,
}  # fmt: skip
FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}
LAYOUTS = {7: torch.strided}
SYMBOLIC = ("as_sym_int", "as_sym_float", "as_sym_bool")


def value_of(argument: Argument) -> Any:
    """An argument as a plain value, with `Ref` for what the graph computes; every device is the CPU.

    Raises:
        Unsafe: it is an operator, a graph, an object, or of a type that isn't known here.
    """
    kind, value = entry_of(argument)
    if kind not in VALUES:
        raise Unsafe(f"it has an argument of the kind {kind}")
    return VALUES[kind](value)


def name_of(argument: Argument) -> str | None:
    """The name of the value that an argument is; None for a constant. Raises Unsafe: see `value_of`."""
    value = value_of(argument)
    return value.name if isinstance(value, Ref) else None


def known(table: Mapping[int, Any], number: Any, what: str) -> Any:
    """What a number stands for. Raises Unsafe: it stands for nothing that is known here."""
    if number not in table:
        raise Unsafe(f"it has the {what} {number!r}, which isn't known here")
    return table[number]


def _plain(value: Any) -> Any:
    return value


def _ref(value: Mapping[str, Any]) -> Ref:
    return Ref(str(value["name"]))


def _refs(values: list[Any]) -> list[Any]:
    return [_refs(value) if isinstance(value, list) else _ref(value) for value in values]


def _symbolic(value: dict[str, Any]) -> Any:
    """A size that the graph computes, or a number."""
    kind, found = entry_of(value)
    return Ref(str(found)) if kind == "as_name" else found


VALUES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_strings"), _plain),
    **dict.fromkeys(SYMBOLIC, _symbolic),
    **{f"{kind}s": lambda values: list(map(_symbolic, values)) for kind in SYMBOLIC},
    "as_none": lambda _: None,
    "as_float": float,  # infinity and NaN are strings
    "as_floats": lambda values: list(map(float, values)),
    "as_complex": lambda value: complex(value["real"], value["imag"]),
    "as_scalar_type": lambda value: known(DTYPES, value, "type"),
    "as_memory_format": lambda value: known(FORMATS, value, "memory format"),
    "as_layout": lambda value: known(LAYOUTS, value, "layout"),
    "as_device": lambda _: torch.device("cpu"),
    "as_tensor": _ref,
    "as_tensors": _refs,
    "as_nested_tensors": _refs,
    "as_optional_tensor": value_of,
    "as_optional_tensors": lambda values: list(map(value_of, values)),
}
