"""Writes messages of protobuf in its text format: https://protobuf.dev/reference/protobuf/textformat-spec/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A name of an enumeration, which stands without quotes."""

    name: str


Scalar = str | int | bool | Word
Value = Scalar | Mapping[str, "Value"] | Sequence["Value"]
Message = Mapping[str, Value]


def text_format(message: Message, indent: str = "") -> str:
    """A message as text, one field a line; repeated fields repeat their name, empty ones are left out."""
    lines: list[str] = []
    for name, value in message.items():
        several = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        for one in several:
            if isinstance(one, Mapping):
                lines.append(f"{indent}{name} {{\n{text_format(one, f'{indent}  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(one)}\n")
    return "".join(lines)


def _scalar(value: "Value") -> str:
    if isinstance(value, Word):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
