"""The options that say what a network takes: --input, --range, --dynamic."""

import re
from collections.abc import Iterable, Sequence

from attn_export.exporter.artifacts import INPUT_NAME, Input
from attn_export.exporter.errors import UsageError

AXES = ("batch", "height", "width")
NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
EXAMPLES = "Expected is NxCxHxW, for example 1x3x224x224; or 1x1x4000 for a signal, 1x1x16x64x64 for a volume."


def parse_inputs(texts: Sequence[str] | None) -> tuple[Input, ...]:
    """``1x3x224x224``, or several like ``mask=1x64:int64``. Raises UsageError: another form, or a name twice."""
    inputs = [_input(text) for text in texts or ()]
    for taken in inputs:
        if [other.name for other in inputs].count(taken.name) > 1:
            named = taken.name if taken.name != INPUT_NAME else ""
            raise UsageError(
                f"--input {named or texts[1] if texts else ''} is given twice",
                hint="Give each input once. Several are called like forward's parameters: --input image=1x3x64x64.",
            )
    return tuple(inputs)


def _input(text: str) -> Input:
    """``[NAME=]NxCxHxW[:TYPE]``; only a named input may have no other size than N."""
    found = re.fullmatch(r"(?:([^\W\d]\w*)=)?([1-9]\d{0,5}(?:[xX][1-9]\d{0,5}){0,4})(?::(\w+))?", text)
    if found is None or not (found[1] or "x" in found[2].lower()):
        raise UsageError(
            f"--input {text} is not a shape",
            hint=f"{EXAMPLES} Several: --input image=1x3x64x64 --input mask=1x64:int64.",
        )
    shape = tuple(int(size) for size in found[2].lower().split("x"))
    return Input(found[1] or INPUT_NAME, shape, found[3] or "float32")


def parse_ranges(texts: Sequence[str] | None) -> dict[str, tuple[float, float]]:
    """``image=0..255``; ``0..255`` is that of the only input, "". Raises UsageError: another form, or a name twice."""
    ranges: dict[str, tuple[float, float]] = {}
    for text in texts or ():
        found = re.fullmatch(rf"(?:([^\W\d]\w*)=)?({NUMBER})\.\.({NUMBER})", text)
        if found is None or not float(found[2]) < float(found[3]):
            raise UsageError(
                f"--range {text} is not a range of values", hint="Expected is NAME=LOW..HIGH, for example image=0..255."
            )
        if (name := found[1] or "") in ranges:
            raise UsageError(f"--range {text}: this input has a range already", hint="Give each once.")
        ranges[name] = float(found[2]), float(found[3])
    return ranges


def parse_axes(dynamic: Iterable[str] | None, static: bool) -> tuple[str, ...]:
    """``batch,height`` of all inputs, ``image:batch`` of one. Raises UsageError: contradictory or unknown axes."""
    names = [name for value in dynamic or () for name in _of_one_value(value)]
    if static and names:
        raise UsageError("--static and --dynamic contradict each other", hint="Leave one of them out.")
    for name in names:
        if name.rpartition(":")[2] not in AXES and not re.fullmatch(r"(\w+:)?axis_[1-9]", name):
            raise UsageError(
                f"--dynamic {name} is unknown",
                hint=f"Known are {', '.join(AXES)}, and axis_1 to axis_4 of inputs that are no images.",
            )
    return () if static else tuple(names) or ("batch",)


def _of_one_value(value: str) -> list[str]:
    """``image:batch,height`` -> image:batch, image:height."""
    names, of = [], ""
    for part in (part.strip() for part in value.split(",")):
        before, colon, name = part.rpartition(":")
        of = before if colon else of
        names += [f"{of}:{name}" if of else name] if name else []
    return names
