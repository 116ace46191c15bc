"""JSON documents: one way to write a record, and one to read it again with the path in each error."""

import inspect
import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

# Version 1 was written by attn-export 0.1: dictionaries put together by hand, with other names.
# Version 2 had one input.
SCHEMA_VERSION = 3
INDENT = 1
LARGEST = 2**63 - 1

Record = TypeVar("Record")


class DocumentError(ValueError):
    """A document that isn't what was expected; the message names the path, such as ``$.latency.timings[2].batch``."""


class Header(msgspec.Struct):
    """What every document begins with."""

    schema_version: int


def encode(record: Any) -> str:
    """The record as JSON text that ends with a newline. Numbers that aren't finite become null."""
    return msgspec.json.format(compact(record), indent=INDENT).decode() + "\n"


def plain(record: Any) -> Any:
    """The record as JSON values: dictionaries, lists, strings, numbers, None."""
    return json.loads(compact(record))


def compact(record: Any) -> bytes:
    """The record as one line of JSON. Numbers that aren't finite become null."""
    try:
        return msgspec.json.encode(record, enc_hook=_encode_path)
    except UnicodeEncodeError:  # names of files may hold bytes that aren't UTF-8
        return msgspec.json.encode(_in_utf8(msgspec.to_builtins(record, enc_hook=_encode_path)))


def _in_utf8(value: Any) -> Any:
    """The JSON values, with a backslash and a number for each byte of a name that isn't UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_in_utf8(key): _in_utf8(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_in_utf8(inner) for inner in value]
    return value


def decode(content: bytes | str, kind: type[Record]) -> Record:
    """Read a document. Raises DocumentError: no JSON, another version, or a value is missing or of another type."""
    try:
        version = msgspec.json.decode(content, type=Header).schema_version
        if version != SCHEMA_VERSION:
            raise DocumentError(f"it has schema version {version}, and this attn-export reads version {SCHEMA_VERSION}")
        record = msgspec.json.decode(content, type=kind, dec_hook=_decode_path)
        _refuse_huge(msgspec.to_builtins(record, enc_hook=_encode_path), "$")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError(str(error)) from error
    return record


def _refuse_huge(value: Any, path: str) -> None:
    """Integers of more than 64 bits, which JSON has and nothing that is counted needs."""
    if isinstance(value, int) and abs(value) > LARGEST:
        raise DocumentError(f"a number has more than 64 bits - at `{path}`")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_huge(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_huge(inner, f"{path}[{index}]")


def schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON schema of a record. Descriptions are dedented: Python 3.13 dedents docstrings, earlier ones don't."""
    found: dict[str, Any] = _dedented(msgspec.json.schema(kind, schema_hook=_path_schema))
    return found


def _dedented(value: Any) -> Any:
    if isinstance(value, list):
        return [_dedented(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: inspect.cleandoc(item) if key == "description" and isinstance(item, str) else _dedented(item)
        for key, item in value.items()
    }


def _encode_path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))


def _decode_path(kind: type[Any], value: Any) -> Any:
    if kind is not Path:
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec adds the place
    return Path(value)


def _path_schema(kind: type[Any]) -> dict[str, str]:
    if kind is Path:
        return {"type": "string"}
    raise NotImplementedError(kind)
