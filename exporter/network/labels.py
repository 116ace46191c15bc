"""Names of classes, from a file."""

from pathlib import Path
from typing import Annotated

import msgspec

from attn_export.exporter.errors import InputError
from attn_export.exporter.system.files import read_whole

HINT = 'Expected is one name a line, or JSON: ["cat", "dog"], {"0": "cat", "1": "dog"} or {"0": ["n02123045", "cat"]}.'
LARGEST_FILE = 2**24
Name = str | Annotated[list[str], msgspec.Meta(min_length=1)]


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of a network's classes, in the order of its outputs.

    Args:
        path: a text file with one name a line, or JSON: a list of names, or an object by index whose values are names
            or lists that end with one.

    Raises:
        InputError: it can't be read, holds no names, or lacks one.
    """
    try:
        text = read_whole(path, LARGEST_FILE).decode("utf-8-sig")
        names = _of_json(text) if path.suffix.lower() == ".json" else text.strip("\r\n").splitlines()
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise InputError(f"{path} can't be read as names of classes: {error}", hint=HINT) from error
    except KeyError as error:
        raise InputError(f"{path} has no name for class {error}", hint=HINT) from error
    found = tuple(name.strip() for name in names)
    if not found or not all(found):
        missing = found.index("") if found else 0
        raise InputError(f"{path} has no name for class {missing}", hint=HINT)
    return found


def _of_json(text: str) -> list[str]:
    content = msgspec.json.decode(text, type=list[Name] | dict[str, Name])
    values = [content[str(i)] for i in range(len(content))] if isinstance(content, dict) else content
    return [value if isinstance(value, str) else value[-1] for value in values]
