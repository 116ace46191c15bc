"""What a program may call, and which expressions may stand in it.

PyTorch's loader looks operators up by their dotted names, and gives symbolic expressions to ``eval``. Here an operator
is one of ATen's that computes tensors from tensors and plain values, or arithmetic of sizes.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from attn_export.exporter.checkpoint.exported.unsafe import Unsafe, Unusable

ATEN = re.compile(r"torch\.ops\.aten\.(?!__)(\w+)\.(\w+)", re.ASCII)
# `from_file` has a file name, `set_` a storage, `record_stream` a stream, `bernoulli` a generator.
ARGUMENTS = re.compile(
    r"(Optional\[)?(List\[)?(Optional\[)?(Tensor|int|float|bool|number|complex|Device|str)\]*", re.ASCII
)
WORDS = frozenset(
    "approximate assert_msg equation indexing interpolation mode norm ord padding padding_side reduce rounding_mode "
    "side".split()
)
# Operators that start with an underscore and are what public ones are made of. Others are for other devices, for
# optimizers, or don't check what they are given.
INNER = frozenset(
    "_adaptive_avg_pool2d _adaptive_avg_pool3d _log_softmax _native_batch_norm_legit_no_training _softmax _to_copy "
    "_scaled_dot_product_flash_attention_for_cpu _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "_upsample_nearest_exact2d _weight_norm _convolution".split()
)
# Operators for training, for other devices and for packed weights; some of them trust the numbers that they are given.
OTHER = re.compile(
    r".*_(backward|jvp)|(cudnn|miopen|mkldnn|mps|fbgemm|quantized?|sparse|to_sparse|nested|set|resize|record)_.*|set|resize"
)
# What torch asserts of sizes while it traces says nothing of the result.
ASSERTIONS = frozenset(
    "_assert_async _assert_scalar _assert_tensor_metadata sym_constrain_range sym_constrain_range_for_size "
    "_functional_assert_async _functional_assert_scalar".split()
)
SIZES: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in "add sub mul floordiv truediv mod neg".split()},
    **{f"_operator.{name}": getattr(operator, name) for name in "eq ne lt le gt ge and_ or_ not_".split()},
    **{f"torch.{name}": getattr(torch, name) for name in "sym_int sym_float sym_max sym_min sym_not sym_ite".split()},
}
LARGEST = 2**63


# Calls of graphs, with what to do before the network is exported again.
CONTROL_FLOW = "Compute both branches and choose with torch.where, and export it again."
HIGHER = {
    **{f"torch.ops.higher_order.{name}": CONTROL_FLOW for name in ("cond", "while_loop", "map_impl", "scan")},
    "torch.ops.higher_order.wrap_with_autocast": "Take torch.autocast out of forward and export it again: other "
    "precisions are made from the float32 network.",
}


def operator_of(target: str) -> Callable[..., Any] | None:
    """The function that a node calls; None for an assertion, which is left out.

    Raises:
        Unsafe: it isn't one of those that are allowed.
        Unusable: it is control flow, or another precision.
    """
    if target in HIGHER:
        raise Unusable(f"calls {target.rpartition('.')[2]}", HIGHER[target])
    if target in SIZES:
        return _bounded(SIZES[target])
    if (found := ATEN.fullmatch(target)) is None:
        raise Unsafe(f"it calls {target}, which isn't an operator of ATen")
    name, overload = found.groups()
    if name in ASSERTIONS:
        return None
    packet: Any = getattr(torch.ops.aten, name, None)
    if packet is None or overload not in packet.overloads():
        raise Unsafe(f"it calls {target}, which this version of PyTorch doesn't have")
    function: Callable[..., Any] = getattr(packet, overload)
    if (name.startswith("_") and name not in INNER) or OTHER.fullmatch(name) or not _computes(function):
        raise Unsafe(f"it calls {target}, which does more than computing tensors from tensors")
    return function


def _computes(function: Any) -> bool:
    """Whether an operator takes tensors and plain values, and isn't one of TorchScript's alone, such as ``save``."""
    arguments = function._schema.arguments  # noqa: SLF001 (there is no public way to it)
    return torch._C._dispatch_has_kernel(function.name()) and all(  # noqa: SLF001
        ARGUMENTS.fullmatch(str(argument.type)) and ("str" not in str(argument.type) or argument.name in WORDS)
        for argument in arguments
        if argument.name != "generator"
    )


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic of sizes whose results stay sizes; sixty products would fill the memory."""

    def bounded(*args: Any) -> Any:
        result = function(*args)
        if type(result) is int and abs(result) >= LARGEST:
            raise OverflowError("a size is larger than 64 bits")
        return result

    return bounded


# The grammar of expressions, as sympy's srepr and torch's printers write them.
NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call,
    ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
FUNCTIONS = frozenset(
    "Symbol Integer Float Rational Add Mul Pow Max Min Mod Abs Eq Ne Lt Le Gt Ge And Or Not Equality Unequality "
    "StrictLessThan LessThan StrictGreaterThan GreaterThan Piecewise FloorDiv CleanDiv CeilDiv ModularIndexing Where "
    "PythonMod CeilToInt FloorToInt TruncToInt TruncToFloat RoundToInt RoundDecimal ToFloat IntTrueDiv FloatTrueDiv "
    "PowByNatural FloatPow LShift RShift Identity IsNonOverlappingAndDenseIndicator floor ceiling".split()
)
SYMBOL = re.compile(r"[suz]u?f?\d+|true|false|True|False|oo|int_oo|nan|zoo", re.ASCII)
ASSUMPTION = re.compile(r"integer|positive|nonnegative|negative|nonzero|finite|real|evaluate|precision", re.ASCII)
LONGEST = 10_000


def check_expressions(document: Any) -> None:
    """Check every symbolic expression in a decoded document. None is evaluated here, so this is for other readers.

    Raises:
        Unsafe: one isn't made of symbols, numbers and functions of sizes.
    """
    for text in set(_expressions(document)):
        if len(text) > LONGEST or not _is_expression(text):
            raise Unsafe(f"its symbolic expression {text[:100]!r} isn't one of sizes")


def _expressions(document: Any) -> Iterator[str]:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "expr_str" in value:
                yield str(value["expr_str"])
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _is_expression(text: str) -> bool:
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return all(map(_is_allowed, ast.walk(tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
    if isinstance(node, ast.Name):
        return node.id in FUNCTIONS or SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Constant):
        is_symbol = isinstance(node.value, str) and SYMBOL.fullmatch(node.value) is not None
        return type(node.value) in (int, float, bool) or is_symbol or _is_number(node.value)
    if isinstance(node, ast.keyword):
        return node.arg is not None and ASSUMPTION.fullmatch(node.arg) is not None
    return isinstance(node, NODES)


def _is_number(value: Any) -> bool:
    """Sympy writes floats as ``Float('0.5', precision=53)``."""
    return isinstance(value, str) and re.fullmatch(r"[-+\d.e]+", value, re.ASCII) is not None
