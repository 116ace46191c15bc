"""The gates of a network while it runs: what goes into each sigmoid and hard sigmoid, however these are spelled.

A sigmoid may be written with exp or tanh, and twice a sigmoid as ``1 + tanh(x)``. A hard sigmoid may be one operator,
or a sum with a number that is clamped from 0 on, such as ``relu6(x + 3) / 6`` or ``clamp(x / 6 + 0.5, 0, 1)``. What is
multiplied with its own logits is Swish or hard Swish, no gate.
`attn_export.exporter.graph.gates` finds the same in ONNX graphs, by the same flow of data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

SIGMOID, HARD_SIGMOID = "sigmoid", "hardsigmoid"
SCALES, SHIFTS = ("mul", "div"), ("add", "sub")


@dataclass
class RecordedGate:
    """One gate.

    Attributes:
        logits: a copy of what goes into the sigmoid; empty for Swish.
        slope: of a hard sigmoid, ``clip(slope * x + offset, 0, 1)``; None for a sigmoid.
        offset: see ``slope``.
        factors: ids of the tensors that make the product with this gate a Swish.
        is_swish: whether it was multiplied with its own logits.
    """

    module_path: str
    logits: torch.Tensor
    slope: float | None
    offset: float
    factors: frozenset[int]
    is_swish: bool = False


@dataclass(frozen=True)
class _Shift:
    """``factor * source + offset``, clamped to ``low`` and ``high``."""

    source: torch.Tensor
    factors: frozenset[int]
    factor: float
    offset: float
    low: float = -math.inf
    high: float = math.inf

    def times(self, number: float) -> "_Shift":
        low, high = sorted((self.low * number, self.high * number))
        return replace(self, factor=self.factor * number, offset=self.offset * number, low=low, high=high)


@dataclass(frozen=True)
class _Part:
    """A part of a sigmoid in the making.

    Attributes:
        source: its logits.
        factors: as in `RecordedGate`.
        steps: the operators so far: "exp", or "tanh", then "+" for a sum with a number and "*" for a product.
    """

    source: torch.Tensor
    factors: frozenset[int]
    steps: str

    def __add__(self, step: str) -> "_Part":
        return replace(self, steps=self.steps + step)


@dataclass(frozen=True)
class _Note:
    """What is known of a tensor.

    Attributes:
        id: its own; a tensor that is written to in place gets a new one.
        source: the tensor that it is a multiple of.
        factor: ``factor * source`` is this tensor.
        source_id: of ``source``.
        shift: what it is, if it is a sum with a number.
        part: of which sigmoid it is a part.
        gate: whose value it is, or a multiple of.
    """

    id: int = field(default_factory=count().__next__)
    source: torch.Tensor | None = None
    factor: float = 1.0
    source_id: int | None = None
    shift: _Shift | None = None
    part: _Part | None = None
    gate: RecordedGate | None = None

    @property
    def factors(self) -> frozenset[int]:
        return frozenset(known for known in (self.id, self.source_id) if known is not None)


class GateRecorder:
    """Records the gates of a module; an observer for `observed`.

    Sigmoids inside a recurrent layer don't count: the layer is one node in an ONNX file.
    """

    def __init__(self, module: nn.Module) -> None:
        self._recurrent = {path for path, submodule in module.named_modules() if isinstance(submodule, nn.RNNBase)}
        self._recorded: list[RecordedGate] = []
        self._notes = WeakTensorKeyDictionary()

    @property
    def gates(self) -> list[RecordedGate]:
        """In the order of computation."""
        return [gate for gate in self._recorded if not gate.is_swish]

    def __call__(self, path: str, operator: Any, args: tuple[Any, ...]) -> Callable[[Any], None] | None:
        """Look at an operator before it runs; the returned function receives its result."""
        if path in self._recurrent or not args or not isinstance(args[0], torch.Tensor):
            return None
        name = operator.overloadpacket.__name__
        note = self._note_of_result(path, name.removesuffix("_"), args, in_place=name.endswith("_")) or _Note()

        def keep(result: Any) -> None:
            if isinstance(result, torch.Tensor):
                self._notes[result] = note

        return keep

    def _note(self, tensor: torch.Tensor) -> _Note:
        if tensor not in self._notes:
            self._notes[tensor] = _Note()
        return self._notes[tensor]

    def _note_of_result(self, path: str, name: str, args: tuple[Any, ...], *, in_place: bool) -> _Note | None:
        x, note = args[0], self._note(args[0])
        if name in (SIGMOID, HARD_SIGMOID):
            slope, offset = (1 / 6, 0.5) if name == HARD_SIGMOID else (None, 0.0)
            return _Note(gate=self._record(RecordedGate(path, x.detach().clone(), slope, offset, note.factors)))
        if name == "glu":
            logits = x.detach().chunk(2, *args[1:2] or (-1,))[1].clone()
            return _Note(gate=self._record(RecordedGate(path, logits, None, 0.0, frozenset())))
        source = x.detach().clone() if in_place else x
        if name == "neg":
            return _scaled(note, source, -1.0)
        if name in (*SCALES, *SHIFTS):
            return self._with_number(path, name, note, source, args[1])
        if name in ("exp", "tanh") and (name == "tanh" or note.factor < 0):
            part = _Part(source if note.source is None else note.source, note.factors, name)
            return _Note(part=part)
        if name == "reciprocal" and note.part is not None and note.part.steps == "exp+":
            return self._completed(path, note.part)
        limits = _limits(name, args[1:])
        return self._clamped(path, note, *limits) if limits and note.shift else None

    def _with_number(self, path: str, name: str, note: _Note, source: torch.Tensor, other: Any) -> _Note | None:
        number = _number(other)
        if number is None:
            if name == "mul" and isinstance(other, torch.Tensor):
                self._drop_swish(note, self._note(other))
            return None
        part = note.part + ("*" if name in SCALES else "+") if note.part else None
        is_twice = part is not None and part.steps == "tanh+" and name == "add" and number == 1
        if part is not None and (is_twice or part.steps in ("tanh+*", "tanh*+")):
            return self._completed(path, part)
        if name in SCALES:
            scaled = _scaled(note, source, number if name == "mul" else 1 / number if number else math.nan)
            return replace(scaled, part=part)
        return replace(_shifted(note, source, number if name == "add" else -number), part=part)

    def _completed(self, path: str, part: _Part) -> _Note:
        return _Note(gate=self._record(RecordedGate(path, part.source.detach().clone(), None, 0.0, part.factors)))

    def _clamped(self, path: str, note: _Note, low: float, high: float) -> _Note:
        assert note.shift is not None
        shift = replace(note.shift, low=max(note.shift.low, low), high=min(note.shift.high, high))
        if shift.low != 0 or not 0 < shift.high < math.inf:
            return _Note(shift=shift)
        slope, offset = shift.factor / shift.high, shift.offset / shift.high
        gate = RecordedGate(path, shift.source.detach().clone(), slope, offset, shift.factors)
        return _Note(gate=self._record(gate))

    def _record(self, gate: RecordedGate) -> RecordedGate:
        self._recorded.append(gate)
        return gate

    @staticmethod
    def _drop_swish(first: _Note, second: _Note) -> None:
        for one, other in ((first, second), (second, first)):
            if one.gate is not None and other.id in one.gate.factors:
                one.gate.is_swish, one.gate.logits = True, one.gate.logits.new_empty(0)


def _scaled(note: _Note, source: torch.Tensor, number: float) -> _Note:
    shift = note.shift.times(number) if note.shift else None
    return _Note(source=source, factor=number, source_id=note.id, shift=shift, gate=note.gate)


def _shifted(note: _Note, tensor: torch.Tensor, number: float) -> _Note:
    source, factor = (tensor, 1.0) if note.source is None else (note.source, note.factor)
    return _Note(shift=_Shift(source, note.factors, factor, number))


def _number(value: Any) -> float | None:
    """A number, also as a tensor without axes."""
    if isinstance(value, torch.Tensor):
        return float(value) if value.ndim == 0 else None
    return float(value) if isinstance(value, int | float) else None


def _limits(name: str, args: tuple[Any, ...]) -> tuple[float, float] | None:
    """What an operator clamps to; None for other operators, and where the limits are tensors."""
    if name == "relu":
        return 0.0, math.inf
    if name == "hardtanh":
        args = (*args, *(-1.0, 1.0)[len(args) :])
    elif name == "clamp_max":
        args = (None, *args)
    elif name not in ("clamp", "clamp_min"):
        return None
    if any(isinstance(limit, torch.Tensor) for limit in args):
        return None
    low, high = (*args, None, None)[:2]
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)
