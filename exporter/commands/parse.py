"""The values of options."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attn_export.exporter.artifacts import Precision, Target
from attn_export.exporter.errors import UsageError

if TYPE_CHECKING:
    from attn_export.exporter.engine.profile import Sizes
    from attn_export.exporter.records.budget import Budget

AUTO = "auto"
LARGEST_SIZE, MOST_CPUS = 65536, 4096
Choice = TypeVar("Choice", bound=str)


def split(values: Iterable[str] | None) -> tuple[str, ...]:
    """Comma lists and repetition alike: ["a,b", "c"] -> ("a", "b", "c")."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def choice(option: str, name: str, known: Iterable[Choice]) -> Choice:
    """The one of these that is called so. Raises UsageError: none is."""
    by_name = {each.value if isinstance(each, Enum) else str(each): each for each in known}
    if name not in by_name:
        raise UsageError(f"{option} {name} is unknown", hint=f"Known are {', '.join(by_name)}.")
    return by_name[name]


def parse_arguments(text: str | None, called: Path | str | None) -> dict[str, Any]:
    """A JSON object as keyword arguments of what is called. Raises UsageError: it is none, or nothing is called."""
    if text is None:
        return {}
    if called is None:
        raise UsageError(
            "--kwargs are arguments of --factory or of timm:NAME, and none was named", hint="Leave it out."
        )
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--kwargs {text} is not JSON: {error}", hint="For example --kwargs '{\"depth\": 18}'."
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f"--kwargs {text} is no JSON object", hint="For example --kwargs '{\"depth\": 18}'.")
    return found


def parse_target(name: str | None) -> Target:
    """The runtime that a graph is shaped for. Raises UsageError: unknown."""
    known = [target for target in Target if target is not Target.ANY]
    return Target.ANY if name is None else choice("--for", name, known)


def parse_precisions(names: Iterable[str] | None) -> tuple[Precision, ...]:
    """The precisions without repetition; empty where none is named. Raises UsageError: unknown."""
    return tuple(choice("--precision", name, Precision) for name in dict.fromkeys(split(names)))


def parse_percent(option: str, text: str, below: float = math.inf) -> float:
    """``2%`` or ``2`` -> 0.02. Raises UsageError: no percentage, or not between 0 and ``below``."""
    found = re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+)\s*%?\s*", text)
    value = float(found[1]) / 100 if found else math.nan
    if not (0 < value < below if below < math.inf else value >= 0):
        between = f" between 0 and {100 * below:g}" if below < math.inf else ""
        raise UsageError(f"{option} {text!r} is no percentage{between}", hint=f"For example {option} 5%.")
    return value


def parse_cpus(text: str | None) -> tuple[int, ...] | None:
    """``0-2,5`` -> (0, 1, 2, 5). Raises UsageError: another form, or a CPU that this process can't use."""
    if text is None:
        return None
    from attn_export.exporter.system.affinity import check_cpus

    chosen: list[int] = []
    for part in split([text]) or ("",):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if not found or int(found[1]) > int(found[2] or found[1]) or int(found[2] or found[1]) >= MOST_CPUS:
            raise UsageError(f"--cpus {text} can't be understood", hint="Expected are numbers: 0-3 or 0,2.")
        chosen += range(int(found[1]), int(found[2] or found[1]) + 1)
    return check_cpus(chosen)


def parse_batches(values: Iterable[str] | None) -> tuple[int, ...]:
    """``["1,8", "32"]`` -> (1, 8, 32). Raises UsageError: no batch size."""
    return tuple(dict.fromkeys(_number("--batch", word) for word in split(values)))


def parse_instances(text: str) -> tuple[str, int]:
    """``2`` -> auto, 2; ``gpu:2`` -> gpu, 2. Raises UsageError: another form."""
    found = re.fullmatch(r"(?:(auto|gpu|cpu):)?([1-9]\d{0,2})", text)
    if found is None:
        raise UsageError(f"--instances {text} can't be understood", hint="Expected is a number, or gpu:2 or cpu:2.")
    return found[1] or "auto", int(found[2])


def parse_sizes(batch: Iterable[str] | None, size: Iterable[str] | None) -> "Sizes":
    """``1,8,32`` and ``192x192,224x224,320x320`` or ``axis_1=8,16,32``: min, opt and max; one stands for all three.

    Raises:
        UsageError: another form, or not in ascending order.
    """
    from attn_export.exporter.engine.profile import Sizes

    batches = [_number("--profile-batch", word) for word in split(batch)]
    images = [_image(word) for word in split(value for value in size or () if "=" not in value)]
    triple = _triple("--profile-batch", batches, "1,8,32") if batches else None
    named = tuple(_named_sizes(value) for value in size or () if "=" in value)
    if not images:
        return Sizes(triple, named=named)
    heights, widths = (_triple("--size", list(axis), "192x192,224x224,320x320") for axis in zip(*images, strict=True))
    low, opt, high = zip(heights, widths, strict=True)
    return Sizes(triple, (low, opt, high), named)


def _number(option: str, word: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", word) or int(word) > LARGEST_SIZE:
        raise UsageError(f"{option} {word} is not a size", hint=f"Expected is a number from 1 to {LARGEST_SIZE}.")
    return int(word)


def _named_sizes(value: str) -> tuple[str, tuple[int, int, int]]:
    """``axis_1=8,16,32``."""
    name, _, sizes = value.partition("=")
    option = f"--size {name}"
    return name.strip(), _triple(option, [_number(option, word) for word in split([sizes])], "8,16,32")


def _image(word: str) -> tuple[int, int]:
    height, times, width = word.lower().partition("x")
    if not times or "x" in width:
        raise UsageError(f"--size {word} is not a size", hint="Expected is HxW, for example 224x224.")
    return _number("--size", height), _number("--size", width)


def _triple(option: str, sizes: list[int], example: str) -> tuple[int, int, int]:
    if len(sizes) not in (1, 3):
        raise UsageError(f"{option} has {len(sizes)} sizes", hint=f"Expected is one, or min, opt and max: {example}.")
    if sizes != sorted(sizes):
        raise UsageError(
            f"{option}: {', '.join(map(str, sizes))} are not min, opt and max",
            hint=f"Give them in ascending order: {example}.",
        )
    return sizes[0], sizes[len(sizes) // 2], sizes[-1]


def parse_gpus(names: Iterable[str] | None) -> tuple[str, ...]:
    """The names of GPUs, checked. Raises UsageError: unknown."""
    from attn_export.exporter.engine.targets import parse_targets

    parse_targets(split(names))
    return split(names)


def parse_budget_options(values: list[str] | None) -> "tuple[Budget, ...]":
    """The budgets. Raises UsageError: another form."""
    if not values:
        return ()
    from attn_export.exporter.budgets.parse import parse_budgets
    from attn_export.exporter.runtimes import RUNS_ENGINES, RUNTIMES

    parts = split(values)
    if not parts:
        raise UsageError("--budget names none", hint="For example --budget latency=3ms.")
    return parse_budgets(parts, (*RUNTIMES, *RUNS_ENGINES))


def report_paths(values: Iterable[Path] | None) -> tuple[Path, ...]:
    """Comma lists and repetition alike."""
    return tuple(Path(part) for part in split(str(path) for path in values or ()))


def refuse(options: Mapping[str, Any], reason: str, hint: str) -> None:
    """Refuse options without effect; ``reason`` comes after "is" or "are". Raises UsageError: any is set."""
    if given := [option for option, value in options.items() if value]:
        raise UsageError(f"{', '.join(given)} {'are' if len(given) > 1 else 'is'} {reason}", hint=hint)
